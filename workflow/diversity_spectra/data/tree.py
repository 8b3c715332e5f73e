"""A tree of images, one folder per class, as planning sees it: which files there are, none of them opened."""

from __future__ import annotations

from pathlib import Path

from diversity_spectra.contents import images_in
from diversity_spectra.errors import UserError


def train_and_test(root: Path) -> tuple[Path, Path] | None:
    """The folders `train` and `test` of a tree that has them; any other tree is one that is split."""
    pair = root / "train", root / "test"
    return pair if all(path.is_dir() for path in pair) else None


def list_classes(root: Path) -> list[str]:
    """Names of the class folders, sorted. Raises `UserError` where there are none."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"{root}: expected one folder per class, found none")
    return classes


def images_below(folder: Path) -> list[Path]:
    """Image files in a class folder, however deep, sorted. Raises `UserError` where there are none."""
    found = images_in(folder)
    if not found:
        raise UserError(f"{folder}: no images in this class folder")
    return found


def counts(root: Path) -> dict[str, int]:
    """Images of every class; empty where there are no class folders."""
    try:
        return {name: len(images_in(root / name)) for name in list_classes(root)}
    except UserError:
        return {}


def held_out(fraction: float, smallest: int) -> int:
    """Images that every class of a tree that is split gives to the test set, at least one."""
    return max(1, round(fraction * smallest))
