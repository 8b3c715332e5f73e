"""Run the command as an installation of the base alone has it: python base_only.py SUBCOMMAND ...

Modules of packages that the base does not bring cannot be imported, whatever lies in this environment.
"""

from __future__ import annotations

import importlib.abc
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def closure(requirements: list[str]) -> set[str]:
    """Packages that these bring, with all that they need themselves; extras of theirs left out."""
    found: set[str] = set()
    waiting = [name_of(text) for text in requirements]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needed = [text for text in metadata.requires(name) or [] if "extra ==" not in text]
            waiting += [name_of(text) for text in needed if _installed(name_of(text))]
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


class Hidden(importlib.abc.MetaPathFinder):
    """Finds nothing, loudly, for modules of other packages."""

    def __init__(self, known: set[str]):
        self.hidden = {
            module
            for module, packages in metadata.packages_distributions().items()
            if not {name.lower().replace("_", "-") for name in packages} & known
        } - {"diversity_spectra"}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, Hidden(closure(PROJECT["dependencies"])))
    from diversity_spectra.cli import main

    raise SystemExit(main())
