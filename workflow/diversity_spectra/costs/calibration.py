"""Rates that past runs measured: `results/calibration.json`, by stage, kind of work and device.

The numbers of an entry are sums over finished jobs, so processes that end at the same time only have to add. Nothing
reads the file but estimates: a damaged or missing one costs no more than them.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from filelock import FileLock

from diversity_spectra.files import write_json

PATH = Path("results/calibration.json")
REMEMBERED = 100  # jobs; beyond them the earlier ones fade, so that faster code and new drivers show
PATIENCE = 10.0  # seconds to wait for another process that writes

log = logging.getLogger("diversity_spectra")


@dataclass(frozen=True)
class Entry:
    """Sums over finished jobs of one kind on one device.

    A job's first result takes its start-up as well, the later ones of the same process their work alone; so `later`
    tells the two apart.
    """

    jobs: float = 0
    seconds: float = 0
    units: float = 0
    later_seconds: float = 0
    later_units: float = 0
    results: float = 0
    bytes: float = 0

    def __add__(self, other: Entry) -> Entry:
        return Entry(**{key: value + getattr(other, key) for key, value in asdict(self).items()})

    @property
    def rate(self) -> float:
        """Seconds per unit."""
        rate = self.seconds / self.units
        return min(rate, self.later_seconds / self.later_units) if self.later_units else rate

    @property
    def start(self) -> float:
        """Seconds of a process beside its units. With the rate it gives back the seconds that the jobs took."""
        return (self.seconds - self.rate * self.units) / self.jobs if self.jobs else 0.0

    def predict(self, units: float) -> float:
        """Seconds of a job of so many units."""
        return self.start + self.rate * units


@dataclass(frozen=True)
class Key:
    stage: str
    kind: str
    device: str


Rates = dict[Key, Entry]


def read(path: Path = PATH) -> Rates:
    """All entries. A damaged file is named, set aside as `*.damaged` and counts as empty."""
    try:
        stages = json.loads(path.read_text())
        return {
            Key(stage, kind, device): _entry(numbers)
            for stage, kinds in stages.items()
            for kind, devices in kinds.items()
            for device, numbers in devices.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        aside = path.with_suffix(".damaged")
        log.warning("%s is damaged (%s): set aside as %s, rates are collected anew", path, error, aside.name)
        with suppress(OSError):
            path.replace(aside)
        return {}


def record(key: Key, measured: Entry, path: Path = PATH) -> None:
    """Add what one process measured. A file that cannot be written is named in the log: no job fails for it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=PATIENCE):
            rates = read(path)
            total = rates.get(key, Entry()) + measured
            if total.jobs > REMEMBERED:
                total = Entry(**{name: value / 2 for name, value in asdict(total).items()})
            write(rates | {key: total}, path)
    except OSError as error:
        log.warning("%s: the time of this job cannot be noted (%s)", path, error)


def write(rates: Rates, path: Path) -> None:
    stages: dict[str, dict] = {}
    for key, entry in rates.items():
        numbers = {name: float(f"{value:.9g}") for name, value in asdict(entry).items() if value}
        stages.setdefault(key.stage, {}).setdefault(key.kind, {})[key.device] = numbers
    write_json(path, stages)


def _entry(numbers: dict) -> Entry:
    entry = Entry(**numbers)
    values = [getattr(entry, field.name) for field in fields(Entry)]
    # Written so that NaN fails as well.
    if not all(0 <= float(value) < float("inf") for value in values) or not entry.units:
        raise ValueError(f"not the numbers of an entry: {numbers}")
    return entry
