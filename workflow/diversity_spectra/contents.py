"""Files that users bring: which ones a folder holds, and a digest of their content.

Digests of single files are remembered with the file's size, times and inode, so that a tree is hashed once, and a file that
was replaced by one of the same size and time is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.files import sha256, write_json

MEMORY = Path("results/cache/.contents")
IMAGES = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".ppm", ".pgm"}

State = list[int | str]  # size, times of modification and of change (ns), inode; SHA-256 where it is known


def files_in(folder: str | Path) -> list[Path]:
    """Files below a folder, sorted, links followed; hidden ones, and what lies in hidden folders, are none of its content."""
    return sorted(Path(entry.path) for entry in _walk(folder, set()))


def images_in(folder: str | Path) -> list[Path]:
    """Those that are images by their names."""
    return [path for path in files_in(folder) if path.suffix.lower() in IMAGES]


def count_images(folder: str | Path) -> int:
    """Of them: planning asks often, of folders of millions."""
    return sum(os.path.splitext(entry.name)[1].lower() in IMAGES for entry in _walk(folder, set()))


def _walk(folder: str | Path, above: set[str]) -> Iterator[os.DirEntry]:
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder that it lies in
        return
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, above | {here})
        elif entry.is_file():
            yield entry


def fingerprint(path: str, key: str, images: bool = False) -> str:
    """Hex digest of a file, or of the names and contents of a folder's files; `images`: of its images alone.

    Raises `UserError`, naming the configuration's key, for a file that is not there or cannot be read.
    """
    root = Path(path)
    try:
        root.stat()
        files = [root] if root.is_file() else (images_in if images else files_in)(root)
        states = _states(root, files)
    except OSError as error:
        reason = "no such file or folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{key}: {error.filename or path}: {reason}") from None
    lines = [f"{name}|{state[-1]}\n" for name, state in states.items()]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every image below a folder, by its path from there."""
    return {name: str(state[-1]) for name, state in _states(folder, images_in(folder)).items()}


def state_of(file: Path) -> State:
    """What changes with the content of a file: size, times of modification and of change, inode."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _states(root: Path, files: list[Path]) -> dict[str, State]:
    """The state of each file, by its path below the root (empty for the root itself)."""
    memory = MEMORY / f"{hashlib.sha256(os.path.realpath(root).encode(errors='surrogateescape')).hexdigest()[:16]}.json"
    known: dict[str, State] = {}
    with suppress(OSError, ValueError):
        known = json.loads(memory.read_text())
    states = {}
    for file in files:
        name = "" if file == root else str(file.relative_to(root))
        now = state_of(file)
        before = known.get(name)
        states[name] = before if before and before[:-1] == now else [*now, sha256(file)]
    if states != known:
        # Planning must also work where nothing may be written; then the digests are worked out again next time.
        with suppress(OSError):
            write_json(memory, states)
    return states
