"""`clean`: list, and with `--remove` remove, what none of these configurations needs of the cache."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from diversity_spectra.config import experiments
from diversity_spectra.jobs import CACHE, RECORD, items
from diversity_spectra.planning.bill import size
from diversity_spectra.planning.lock import alone
from diversity_spectra.planning.steps import Work
from diversity_spectra.stages import kinds

DAY = 86_400  # seconds
STATES = Path(CACHE, ".resume")


@dataclass(frozen=True)
class Leftover:
    """A folder of the cache that nothing needs. age: seconds since it was written to."""

    path: Path
    bytes: int
    age: float
    owned: bool


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile", action="append", metavar="FILE", required=True, help="what it asks for is kept; may be repeated"
    )
    parser.add_argument("--remove", action="store_true", help="remove what is listed")
    parser.epilog = "example: diversity-spectra clean --configfile config.yaml --configfile flowers.yaml --remove"


def run(arguments: argparse.Namespace) -> None:
    with alone() if arguments.remove else nullcontext():
        found = sorted(
            leftovers([Work(experiments.load(file)) for file in arguments.configfile]), key=lambda left: -left.bytes
        )
        for left in found:
            owner = "" if left.owned else "  (of another user, left)"
            print(f"{size(left.bytes):>9}  {left.age / DAY:5.1f} days  {left.path}{owner}")
        own = [left for left in found if left.owned]
        for left in own if arguments.remove else ():
            for record in left.path.rglob(RECORD):
                record.unlink()  # first: what is half removed is no result
            shutil.rmtree(left.path)
    number = f"{len(own)} result{'s' * (len(own) != 1)}"
    told = f"{number}, {size(sum(left.bytes for left in own))}, not needed by {' and '.join(arguments.configfile)}"
    print(f"removed {told}" if arguments.remove else f"{told}; --remove removes them")


def leftovers(works: Iterable[Work]) -> Iterator[Leftover]:
    """What none of the works needs: results, runs of seeds that are asked for no more, and states of trainings."""
    steps = [step for work in works for step in work.steps]
    needed = {folder for step in steps for folder in step.results}
    for kind in kinds():
        for item in items(kind):
            runs = [path for path in item.iterdir() if path.is_dir()]
            if str(item) not in needed and needed.isdisjoint(map(str, runs)):
                yield _leftover(item)
            elif str(item) not in needed:
                yield from (_leftover(run) for run in runs if str(run) not in needed)
    keys = {step.job.key for step in steps}
    states = STATES.iterdir() if STATES.is_dir() else ()
    yield from (_leftover(folder) for folder in states if folder.name not in keys)


def _leftover(path: Path) -> Leftover:
    states = [file.stat() for file in (path, *path.rglob("*"))]
    written = max(state.st_mtime for state in states)
    return Leftover(
        path, sum(state.st_size for state in states), max(0.0, time.time() - written), states[0].st_uid == os.getuid()
    )
