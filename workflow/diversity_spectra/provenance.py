"""Identity of code: a digest that comments, docstrings and formatting do not move."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

from diversity_spectra.jobs import Job, digest
from diversity_spectra.stages import STAGES

PACKAGE = Path(__file__).parent
NAME = PACKAGE.name

# These move bytes, print or plan: they cannot change the content of a result but through the settings of its job.
UNCOUNTED = {
    "cli", "columns", "conditions", "config", "contents", "costs", "errors", "execution", "files", "jobs", "planning",
    "provenance", "settings", "stages", "work",
}  # fmt: skip


def code_of(job: Job, packages: tuple[str, ...] = ()) -> str:
    """Digest of the code that a job runs, and of the versions of these packages."""
    code = code_digest(STAGES[job.command.partition(" ")[0]][0], *job.modules())
    versions = {package: metadata.version(package) for package in packages}
    return digest([code, versions]) if versions else code


@cache
def code_digest(*modules: str) -> str:
    """Digest of the syntax trees of modules, as dotted names below the package, and of all that they import of the package.

    The templates in their folders count; comments, docstrings and formatting do not.
    """
    reached = _reached(modules)
    trees = {module: _module(path)[1] for module, path in sorted(reached.items())}
    folders = {PACKAGE / module.split(".")[0] for module in reached}
    templates = {
        str(path.relative_to(PACKAGE)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in folder.rglob("*.j2")
    }
    return digest({**trees, **templates})


def _reached(modules: tuple[str, ...]) -> dict[str, Path]:
    queue = [*modules]
    reached: dict[str, Path] = {}
    while queue:
        module = queue.pop()
        path = _module_path(module)
        if module in reached or path is None or module.split(".")[0] in UNCOUNTED or path.name == "job.py":
            continue
        reached[module] = path
        queue += _module(path)[0]
    return reached


def _module_path(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.removesuffix(".__init__").split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _module(path: Path) -> tuple[list[str], str]:
    """What a module imports of the package anywhere, as dotted names below it, and the digest of its syntax tree.

    One parse for both: every job on a cluster plans again, and this is most of it.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    imports = [name.removeprefix(f"{NAME}.") for name in names if name.startswith(f"{NAME}.")]
    return imports, hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the body opens with a docstring."""
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
