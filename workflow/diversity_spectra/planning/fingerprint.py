"""Fingerprints of files that users bring: their content counts, not their times.

Digests are remembered by size and modification time, so that planning reads a file once, and a file that was only
touched is read again and found unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.files import sha256, write_json

MEMORY = Path("results/cache/fingerprints.json")


def fingerprint(path: str, key: str) -> str:
    """Hex digest of a file, or of a folder's file names and contents.

    Raises `UserError`, naming the configuration's key, for a file that is not there or cannot be read.
    """
    try:
        return _fingerprint(Path(path))
    except OSError as error:
        reason = "no such file or folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{key}: {error.filename or path}: {reason}") from None


def _fingerprint(root: Path) -> str:
    root.stat()
    memory = _remembered()
    files = [root] if root.is_file() else sorted(_walk(root))
    total = hashlib.sha256()
    fresh = {}
    for file in files:
        state = file.stat()
        entry = f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        fresh[entry] = memory.get(entry) or sha256(file)
        total.update(f"{file.relative_to(root) if root.is_dir() else ''}|{fresh[entry]}\n".encode())
    if any(entry not in memory for entry in fresh):
        memory.update(fresh)
        # Planning must also work where nothing may be written; then the digests are worked out again next time.
        with suppress(OSError):
            write_json(MEMORY, memory)
    return total.hexdigest()[:16]


def _walk(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return found


def _remembered() -> dict[str, str]:
    try:
        return json.loads(MEMORY.read_text())
    except (OSError, ValueError):
        return {}
