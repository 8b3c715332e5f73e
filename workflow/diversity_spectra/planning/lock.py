"""One workflow at a time for an experiment, and for each shared result, by locks that the kernel frees with a process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

from diversity_spectra.errors import UserError

MAKERS = Path("results/cache/.makers")
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


def claim(experiment: str, results: Collection[str]) -> None:
    """Say that this process makes these results of the cache, as `stage/name-key`, for as long as it lives.

    Raises `UserError`, naming it, if another workflow is making some of them: Snakemake would delete what the other has
    just finished before it makes it again.
    """
    MAKERS.mkdir(parents=True, exist_ok=True)
    with (MAKERS / "lock").open("a") as entrance:
        fcntl.flock(entrance, fcntl.LOCK_EX)
        for path in MAKERS.glob("*.json"):
            with path.open() as stream:
                if _free(stream):
                    path.unlink()
                    continue
                other = json.load(stream)
            if common := sorted({*results} & {*other["results"]}):
                shown = ", ".join(name.rpartition("-")[0] for name in common[:3]) + ", ..." * (len(common) > 3)
                raise UserError(
                    f"experiment {other['experiment']!r} (process {other['process']}) is making {len(common)} of the same"
                    f" results ({shown}): start this one when it has ended, or put both into a sweep"
                )
        own = (MAKERS / f"{socket.gethostname()}-{os.getpid()}.json").open("w")
        fcntl.flock(own, fcntl.LOCK_EX)
        json.dump({"experiment": experiment, "process": os.getpid(), "results": sorted(results)}, own)
        own.flush()
    _held.append(own)


def _free(stream: TextIO) -> bool:
    """Whether no living process holds the file."""
    try:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
