"""Identity of code: a digest that words for people and for type checkers do not move, nor the version of Python."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from diversity_spectra import __version__
from diversity_spectra.contents import MEMORY as CONTENTS
from diversity_spectra.contents import state_of
from diversity_spectra.errors import UserError
from diversity_spectra.files import write_json
from diversity_spectra.jobs import CACHE, Job, digest
from diversity_spectra.stages import STAGES

PACKAGE = Path(__file__).parent
NAME = PACKAGE.name
MEMORY = CONTENTS / "code.json"

# These read settings, plan or print: what they do reaches a result through the settings of its job, and no other way.
UNCOUNTED = {
    "cli", "columns", "config", "contents", "errors", "jobs", "planning", "provenance", "settings", "stages", "work",
}  # fmt: skip
# Texts for people: names of modules' constants, and of arguments in calls.
WORDS = {"EXAMPLE", "EPILOG", "__version__"}
WORDS_IN_CALLS = {"help", "epilog", "metavar", "description", "meaning", "weightwatcher"}
LOGS = {"log", "logger", "logging"}


def code_of(job: Job) -> str:
    """Digest of the code that a job runs: what its command imports of the package, and the command as its rule has it."""
    command = job.command
    return digest([code_digest(STAGES[command.partition(" ")[0]][0], *job.modules()), command, _shell(command)])


def version() -> str:
    """Of this package, with the commit where it lies in a checkout: `0.1.0 (commit 0123456789ab, with changes)`."""
    root = PACKAGE.parents[1]
    if (root / ".git").exists():  # of its own: a folder around an installed package may be anybody's repository
        asked = [
            "git",
            "--no-optional-locks",
            "-C",
            root,
            "describe",
            "--always",
            "--dirty",
            "--exclude=*",
            "--abbrev=12",
        ]
        with suppress(OSError, subprocess.SubprocessError):
            said = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            commit, _, changed = said.partition("-")
            return f"{__version__} (commit {commit}{', with changes' if changed else ''})"
    return __version__


def versions_of(packages: list[str]) -> dict[str, str]:
    """Installed versions."""
    return {package: metadata.version(package) for package in packages}


def forget() -> None:
    """Let digests be taken of the files as they are now."""
    code_digest.cache_clear()
    _shell.cache_clear()


@cache
def code_digest(*modules: str) -> str:
    """Digest of modules, as dotted names below the package, and of all that they import of the package.

    Files of other kinds that lie beside them count as they are.
    """
    reached = _reached(modules)
    trees = {module: _module(path)[1] for module, path in sorted(reached.items())}
    beside = {
        str(path.relative_to(PACKAGE)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in {path.parent for path in reached.values()} - {PACKAGE}
        for path in folder.iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".")
    }
    return digest({**trees, **beside})


@cache
def _shell(command: str) -> list[str]:
    """The command in the rules of the workflow, where there is one around the package."""
    texts = [path.read_text() for path in sorted((PACKAGE.parent / "rules").glob("*.smk"))]
    return [line for text in texts for line in re.findall(rf'"(diversity-spectra {command} [^"]*)"', text)]


def _reached(modules: tuple[str, ...]) -> dict[str, Path]:
    queue = [*modules]
    reached: dict[str, Path] = {}
    while queue:
        module = queue.pop()
        path = _module_path(module)
        if module in reached or path is None or module.split(".")[0] in UNCOUNTED or path.name == "job.py":
            continue
        reached[module] = path
        parent = module.rpartition(".")[0]
        queue += [*_module(path)[0], *([parent] if parent else [])]
    return reached


def _module_path(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.removesuffix(".__init__").split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _module(path: Path) -> tuple[list[str], str]:
    """What a module imports of the package anywhere, as dotted names below it, and the digest of its syntax tree."""
    known, state = _memory(), state_of(path)
    before = known.get(str(path))
    if before is None or before[0] != state:
        before = known[str(path)] = [state, *_parsed(path)]
    return before[1], before[2]


def _parsed(path: Path) -> tuple[list[str], str]:
    try:
        tree = _Wordless().visit(ast.parse(path.read_text(encoding="utf-8")))
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None
    inside = [NAME, *path.relative_to(PACKAGE).parent.parts]
    prefix = f"{NAME}."
    names = [name.removeprefix(prefix) for name in _imports(tree, inside) if name.startswith(prefix)]
    return names, digest(_plain(tree))


@cache
def _memory() -> dict[str, list]:
    """What was read of each module, by its path and with the state of the file: parsing takes most of planning."""
    with suppress(OSError, ValueError):
        if (known := json.loads(MEMORY.read_text())).get("") == [state_of(Path(__file__))]:
            return known
    return {}


def remember() -> None:
    """Keep what was read of modules for the next process, where there is a cache."""
    known = {"": [state_of(Path(__file__))], **_memory()}
    with suppress(OSError):
        if Path(CACHE).is_dir() and (not MEMORY.exists() or json.loads(MEMORY.read_text()) != known):
            write_json(MEMORY, known)


def _imports(tree: ast.AST, inside: list[str]) -> Iterator[str]:
    """Dotted names that are imported, or that stand as texts for `importlib`. inside: the package of the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


class _Wordless(ast.NodeTransformer):
    """Takes out what changes no result: docstrings, annotations, and texts of help, logs and errors."""

    def _body(self, node: ast.AST) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        return self.generic_visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node)

    visit_Module = visit_ClassDef = _body
    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        words = all(isinstance(target, ast.Name) and target.id in WORDS for target in node.targets)
        return None if words else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if typing and not node.orelse else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        function = getattr(node.value, "func", None)
        spoken = isinstance(function, ast.Attribute) and getattr(function.value, "id", None) in LOGS
        return None if spoken else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if getattr(node.func, "id", None) == "UserError":
            return node.func
        node.keywords = [keyword for keyword in node.keywords if keyword.arg not in WORDS_IN_CALLS]
        return self.generic_visit(node)


def _plain(node: object) -> object:
    """A syntax tree as lists, empty fields left out: `ast.dump` writes it in another way in each version of Python."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends a nested format with an empty text
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in ("ctx", "kind"))
        return [type(node).__name__, {name: _plain(value) for name, value in fields if value not in (None, [])}]
    if isinstance(node, list):
        return [_plain(part) for part in node]
    return repr(node)
