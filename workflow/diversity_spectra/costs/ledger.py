"""The time of one process, told apart by the results it makes, and added to the calibration file when it ends well.

`cli` begins and closes the ledger, `execution` says which job it is and when a result is there. A process without a job
of the workflow notes nothing.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from diversity_spectra.costs import calibration
from diversity_spectra.costs.calibration import Entry, Key
from diversity_spectra.costs.machine import cpu, gpu_in_use
from diversity_spectra.costs.sizes import Sets
from diversity_spectra.costs.work import takes_device, work

SAVED_STATES = Path("results/cache/.resume")

log = logging.getLogger("diversity_spectra")


@dataclass(frozen=True)
class Result:
    """One result: the time since the one before it, its room on the disk, and whether that was all of its work."""

    seconds: float
    bytes: int
    whole: bool = True


@dataclass
class Ledger:
    since: float = field(default_factory=time.monotonic)  # when the last result was there
    job: dict = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    saved: set[str] = field(default_factory=set)  # trainings that go on from a saved state


_ledger = Ledger()


def begin() -> None:
    """The process starts here."""
    global _ledger
    _ledger = Ledger()


def open_job(job: dict) -> None:
    """This is what the process works on."""
    _ledger.job = job
    _ledger.saved = {path.stem for path in (SAVED_STATES / str(job.get("key"))).glob("*.pt")}
    log.addFilter(_mark_device)


def result(folder: Path, seed: object = None) -> None:
    """A result is there, of a seed where the stage works by run."""
    now = time.monotonic()
    training = _ledger.job.get("stage") if seed is None else f"state-{seed}"
    _ledger.results.append(Result(now - _ledger.since, _size(folder), training not in _ledger.saved))
    _ledger.since = now


def close(threads: int) -> None:
    """Add the process to the calibration file."""
    job = _ledger.job
    if "stage" not in job:
        return
    try:
        if job["stage"] in ("compare", "report", "sweep"):  # their folder is no temporary one that `publish` moves
            result(Path(job["out"]))
        results = _ledger.results
        whole = sum(result.whole for result in results)
        done = work(job, whole, Sets())
        if whole and done.units:
            device = (takes_device(job) and gpu_in_use()) or cpu(threads)
            calibration.record(Key(job["stage"], done.kind, device), measured(results, done.units))
    # Nobody's result may hang on its price.
    except Exception as error:
        log.warning("the time of this job is not noted (%s: %s)", type(error).__name__, error)


def measured(results: list[Result], units: float) -> Entry:
    """The entry of one process, whose whole results share the units evenly."""
    whole = [result for result in results if result.whole]
    later = [result.seconds for result in results[1:] if result.whole]
    return Entry(
        jobs=int(results[0].whole),
        seconds=sum(result.seconds for result in whole),
        units=units,
        later_seconds=sum(later),
        later_units=units * len(later) / len(whole),
        results=len(whole),
        bytes=sum(result.bytes for result in whole),
    )


def _size(folder: Path) -> int:
    """Bytes of the files that a result's record names."""
    try:
        outputs = json.loads((folder / "spec.json").read_text())["outputs"]
        return sum((folder / name).stat().st_size for name in outputs)
    except (OSError, ValueError, KeyError):
        return 0


def _mark_device(record: logging.LogRecord) -> bool:
    """A job may wait for a free GPU. `devices.choose` says when it has one, and the time of the job starts then."""
    if record.funcName == "choose" and str(record.msg).startswith("working on"):
        _ledger.since = time.monotonic()
    return True
