"""One workflow at a time for an experiment, by a lock that the kernel frees when its process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from diversity_spectra.errors import UserError

_held: list[TextIO] = []  # open until the process ends


def hold(experiment: str) -> None:
    """Lock `results/<experiment>` for as long as this process lives.

    Raises `UserError`, naming the process, if another workflow holds it, or if nothing can be written here.
    """
    path = Path("results") / experiment / ".lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    except OSError as error:
        raise UserError(
            f"{path.parent} cannot be written ({error.strerror}); results are kept below results/"
        ) from None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        raise UserError(
            f"another workflow (process {holder}) is at work on experiment {experiment!r} in this folder; "
            "wait for it, or name another experiment"
        ) from None
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    _held.append(stream)
