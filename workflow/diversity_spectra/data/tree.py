"""A tree of images, one folder per class, as planning sees it: which files there are, none of them opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from diversity_spectra.contents import count_images, images_in
from diversity_spectra.errors import UserError

# What people call the parts of a data set, in any case.
PARTS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# What to do with images that come in another way.
EXPORT = (
    "save images of a table, a Parquet file, a tar or a Hugging Face data set as PATH/CLASS/NAME.png, one folder per class:"
    " diversity-spectra folders SOURCE PATH does"
)


@dataclass(frozen=True)
class Layout:
    """Folders of class folders. test is None where there is one tree, which is split; unused is a part that nobody reads."""

    train: Path
    test: Path | None = None
    unused: Path | None = None


def layout(root: Path) -> Layout:
    """The parts of a tree: a training part with a test part, or else a validation part, which is then tested on.

    A training part alone is one tree that is split, as are class folders without parts. Raises `UserError` for two folders
    that are the same part.
    """
    folders = _folders(root)
    found: dict[str, Path] = {}
    for part, words in PARTS.items():
        named = [path for path in folders if path.name.lower() in words]
        if len(named) > 1:
            raise UserError(f"{root}: {' and '.join(path.name for path in named)} are both the {part} part; keep one")
        found.update((part, path) for path in named)
    if "train" not in found or (len(found) == 1 and len(folders) > 1):  # a class may be called so
        return Layout(root)
    test = found.get("test", found.get("val"))
    return Layout(found["train"], test, found.get("val") if "test" in found else None)


def list_classes(root: Path) -> list[str]:
    """Names of the class folders, sorted. Raises `UserError` where there are none."""
    classes = sorted(path.name for path in _folders(root))
    if not classes:
        raise UserError(f"{root}: expected one folder per class, found none; {EXPORT}")
    for name in classes:
        if not name.isprintable():  # so is what is not UTF-8
            raise UserError(f"{root}: the class folder {name!a} needs a name of printable UTF-8 text; rename it")
    return classes


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def images_below(folder: Path) -> list[Path]:
    """Image files in a class folder, however deep, sorted. Raises `UserError` where there are none."""
    found = images_in(folder)
    if not found:
        raise UserError(f"{folder}: no images in this class folder")
    return found


def counts(root: Path) -> dict[str, int]:
    """Images of every class; empty where there are no class folders."""
    try:
        return {name: count_images(root / name) for name in list_classes(root)}
    except UserError:
        return {}


def problem(root: Path) -> str | None:
    """Why nothing can be learnt from a tree, as far as its folders tell; None where nothing is wrong, or nothing there."""
    if root.is_file():
        return f"{root}: a file; {EXPORT}"
    if not root.exists():
        return None
    try:
        classes = list_classes(layout(root).train)
    except UserError as error:
        return str(error)
    if len(classes) > 1:
        return None
    return (
        f"{root}: one class, {classes[0]!r}, and nothing to tell it from; name the folder that holds one folder per class;"
        f" {EXPORT}"
    )


def printable(path: Path) -> str:
    """A path as text that can be written everywhere, whatever bytes its name has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def share(fraction: float, images: int) -> int:
    """Images that a class of so many gives to a part that takes this fraction of every class, at least one."""
    return max(1, round(fraction * images))
