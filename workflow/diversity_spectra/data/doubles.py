"""Files of the same content, as they gather in folders of images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from diversity_spectra.files import sha256

TAIL = 4096  # bytes


def doubles(files: Sequence[Path]) -> list[list[int]]:
    """Groups of at least two files of the same bytes, as indices.

    Files that differ in size or in their last bytes, where image formats keep pixels and checksums, are read no further.
    """
    alike = _groups(range(len(files)), lambda index: (files[index].stat().st_size, _tail(files[index])))
    return [group for same in alike for group in _groups(same, lambda index: sha256(files[index]))]


def _groups(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        found[key(index)].append(index)
    return [group for group in found.values() if len(group) > 1]


def _tail(path: Path) -> bytes:
    with path.open("rb") as stream:
        stream.seek(-min(TAIL, path.stat().st_size), 2)
        return hashlib.sha256(stream.read()).digest()
