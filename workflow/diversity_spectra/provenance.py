"""Jobs and their identity: a result is addressed by everything that could change it.

A job's key is the digest of one canonical JSON text: the stage, a digest of the code that the stage runs, its settings,
and the paths of its inputs, which hold the keys of the jobs that made them. So an edit reaches exactly the results
that could differ, and going back to an earlier setting finds the earlier results again.
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
NAME = PACKAGE.name

# These modules move bytes, print or plan: they cannot change the content of a result.
UNCOUNTED = {"errors", "columns", "files", "cli", "config", "conditions", "provenance", "execution", "costs"}


def canonical(value: object) -> str:
    """JSON with sorted keys and no white space: equal values give equal text, whatever their order in a file."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Job:
    """One unit of work: `inputs` and `out` are paths relative to the checkout."""

    stage: str
    name: str
    settings: dict
    inputs: dict
    code: str
    place: str | None = None  # a fixed folder; else one in the cache, addressed by the key

    @property
    def key(self) -> str:
        settings = _counted(self.settings)
        return digest({"stage": self.stage, "code": self.code, "settings": settings, "inputs": self.inputs})

    @property
    def item(self) -> str:
        return f"{self.name}-{self.key}"

    @property
    def out(self) -> str:
        return self.place or f"results/cache/{self.stage}/{self.item}"

    @property
    def spec(self) -> dict:
        return {
            "stage": self.stage,
            "name": self.name,
            "key": self.key,
            "code": self.code,
            "settings": self.settings,
            "inputs": self.inputs,
            "out": self.out,
        }

    @property
    def text(self) -> str:
        """The one canonical string that the rule passes to the stage."""
        return canonical(self.spec)


def _counted(settings: object) -> object:
    """Settings without the paths whose content has a fingerprint beside them: moving files changes nothing."""
    if not isinstance(settings, dict):
        return settings
    return {key: _counted(value) for key, value in settings.items() if f"{key}_fingerprint" not in settings}


@cache
def code_digest(stage: str, *modules: str) -> str:
    """Digest of the syntax trees of a stage's command and of the package modules it imports, and of its templates.

    modules: dotted names below the package of what the job finds by name, such as its kinds of augmentation.
    Comments, docstrings and formatting do not count.
    """
    reached = _reached(stage, modules)
    trees = {module: _module(path)[1] for module, path in sorted(reached.items())}
    folders = {PACKAGE / module.split(".")[0] for module in reached}
    templates = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for folder in folders for path in folder.glob("*.j2")
    }
    return digest({**trees, **templates})


def _reached(stage: str, modules: tuple[str, ...]) -> dict[str, Path]:
    queue = [*modules, f"{stage}.command"]
    reached: dict[str, Path] = {}
    while queue:
        module = queue.pop()
        path = _module_path(module)
        if module in reached or path is None or module.split(".")[0] in UNCOUNTED:
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
