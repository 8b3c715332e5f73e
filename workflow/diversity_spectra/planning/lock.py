"""One workflow at a time for an experiment, and for each shared result, by locks that the kernel frees with a process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
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
    if not _locked(stream, fcntl.LOCK_EX | fcntl.LOCK_NB):
        stream.seek(0)
        holder = stream.read().strip() or "unknown"
        raise UserError(
            f"another workflow (process {holder}) is at work on experiment {experiment!r} in this folder; "
            "wait for it, or name another experiment"
        ) from None
    stream.truncate(0)
    _write(stream, str(os.getpid()))


def claim(experiment: str, results: Collection[str]) -> None:
    """Say that this process makes these results of the cache, as `stage/name-key`, for as long as it lives.

    Raises `UserError`, naming it, if another workflow is making some of them: Snakemake would delete what the other has
    just finished before it makes it again. Nothing to make is nothing to claim, also in a cache that is only read.
    """
    if not results:
        return
    with _entrance():
        for other in _makers():
            if common := sorted({*results} & {*other["results"]}):
                shown = ", ".join(name.rpartition("-")[0] for name in common[:3]) + ", ..." * (len(common) > 3)
                raise UserError(
                    f"experiment {other['experiment']!r} (process {other['process']}) is making {len(common)} of the same"
                    f" results ({shown}): start this one when it has ended, or put both into a sweep"
                )
        own = (MAKERS / f"{socket.gethostname()}-{os.getpid()}.json").open("w")
        _locked(own, fcntl.LOCK_EX)
        _write(own, json.dumps({"experiment": experiment, "process": os.getpid(), "results": sorted(results)}))


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise UserError(f"{stream.name} cannot be written ({error.strerror})") from None
    _held.append(stream)


@contextmanager
def alone() -> Iterator[None]:
    """Within the block no workflow starts with this cache. Raises `UserError`, naming it, if one is at work."""
    with _entrance():
        for other in _makers():
            raise UserError(f"experiment {other['experiment']!r} (process {other['process']}) is at work; wait for it")
        yield


def at_work() -> list[dict]:
    """Workflows that make results of this cache now: experiment, process, results. Nothing is written where none was."""
    return list(_makers()) if MAKERS.is_dir() else []


@contextmanager
def _entrance() -> Iterator[None]:
    try:
        MAKERS.mkdir(parents=True, exist_ok=True)
        entrance = (MAKERS / "lock").open("a")
    except OSError as error:
        raise UserError(f"{MAKERS.parent} cannot be written ({error.strerror}): {error.filename}") from None
    with entrance:
        _locked(entrance, fcntl.LOCK_EX)
        yield


def _makers() -> Iterator[dict]:
    """What living workflows make; what dead ones left behind is removed."""
    for path in MAKERS.glob("*.json"):
        with suppress(OSError), path.open() as stream:  # another user's, closed to this one, says nothing
            if _locked(stream, fcntl.LOCK_SH | fcntl.LOCK_NB):
                path.unlink()
            else:
                yield json.load(stream)


def _locked(stream: TextIO, how: int) -> bool:
    """Lock a file; whether it could be. Where the file system knows no locks it counts as locked, and that is said."""
    try:
        fcntl.flock(stream, how)
    except BlockingIOError:
        return False
    except OSError as error:
        print(
            f"note: {stream.name} cannot be locked ({error.strerror}): see to it that one workflow at a time works here",
            file=sys.stderr,
        )
    return True
