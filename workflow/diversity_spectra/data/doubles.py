"""Files of the same content, as they gather in folders of images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from pathlib import Path

from diversity_spectra.contents import digests
from diversity_spectra.data.tree import Layout, printable
from diversity_spectra.errors import UserError
from diversity_spectra.files import sha256

TAIL = 4096  # bytes


def doubles(files: Sequence[Path]) -> list[list[int]]:
    """Groups of at least two files of the same bytes, as indices.

    Files that differ in size or in their last bytes, where image formats keep pixels and checksums, are read no further.
    """
    alike = _groups(range(len(files)), lambda index: (files[index].stat().st_size, _tail(files[index])))
    return [group for same in alike for group in _groups(same, lambda index: sha256(files[index]))]


def leaks(root: Path, leaked: Sequence[Path], tested: int) -> list[str]:
    """What to say of test images in `root`, so many, of which some are training images. Raises `UserError` where most are."""
    if len(leaked) > tested / 2:
        raise UserError(
            f"{root}: {len(leaked)} of {tested} test images are training images as well, the first"
            f" {printable(leaked[0])}: nothing could be said of new images"
        )
    return [f"{len(leaked)} of {tested} test images are training images as well, byte by byte"] if leaked else []


def between(there: Layout, classes: Collection[str]) -> list[str]:
    """What to say of parts that come divided: the one that nobody reads, and what lies in both others, as `leaks` does."""
    if there.test is None:
        return []
    notes = [f"{there.unused} is not used: {there.test.name}/ is tested on"] if there.unused else []
    trained, tested = (
        {name: digest for name, digest in digests(part).items() if Path(name).parts[0] in classes}
        for part in (there.train, there.test)
    )
    leaked = {*trained.values()} & {*tested.values()}
    return notes + leaks(there.test, [Path(name) for name in tested if tested[name] in leaked], len(tested))


def _groups(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        found[key(index)].append(index)
    return [group for group in found.values() if len(group) > 1]


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(-min(TAIL, path.stat().st_size), 2)
        return hashlib.sha256(stream.read()).digest()
