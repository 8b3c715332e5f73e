"""What jobs cost: seconds and bytes by kind of job, kind of work and device.

The records of jobs that are done tell; in a fresh clone the rates that are shipped with the package do.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.jobs import CACHE, RECORD, read_record
from diversity_spectra.planning.machine import cpu

SHIPPED = Path(__file__).parent / "rates.json"
REMEMBERED = 100  # results; of more the latest count, so that faster code and new drivers show


@dataclass(frozen=True)
class Key:
    stage: str
    kind: str
    device: str


@dataclass(frozen=True)
class Rate:
    """start: seconds of a process before its first result. seconds, bytes: of one unit of work. units: of a result, mean.

    shipped: it was measured on another machine.
    """

    start: float
    seconds: float
    bytes: float
    units: float
    shipped: bool = False

    def predict(self, units: float) -> float:
        """Seconds of a process that does so much."""
        return self.start + self.seconds * units


Rates = dict[Key, Rate]


def known() -> Rates:
    """Rates of the results in the cache, then, of work that none of them did, those shipped with the package."""
    shipped = {key: replace(rate, shipped=True) for key, rate in load(SHIPPED).items()}
    own = measured()
    return own | {key: rate for key, rate in shipped.items() if key not in own}


def measured() -> Rates:
    """Rates of the results in the cache."""
    found: dict[Key, list[dict]] = defaultdict(list)
    for record in _records():
        device = record.get("device", "cpu")
        device = cpu(record.get("threads", 1)) if device == "cpu" else device
        found[Key(record["stage"], record["work"]["kind"], device)].append(record)
    return {
        key: _rate(sorted(records, key=lambda record: record["ended"])[-REMEMBERED:]) for key, records in found.items()
    }


def load(path: Path) -> Rates:
    """Rates in a file: {stage: {kind of work: {device: {start, seconds, bytes, units}}}}."""
    try:
        stages = json.loads(path.read_text())
        return {
            Key(stage, kind, device): Rate(**numbers)
            for stage, kinds in stages.items()
            for kind, devices in kinds.items()
            for device, numbers in devices.items()
        }
    except FileNotFoundError:
        raise UserError(f"--rates {path}: no such file") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"--rates {path}: not a file of rates ({error})") from None


def _records() -> Iterator[dict]:
    """Those of whole pieces of work: a training that was resumed did not take the time between its start and its end."""
    for path in Path(CACHE).glob(f"[!.]*/**/{RECORD}"):
        record = read_record(path.parent) or {}
        if record.get("work", {}).get("units") and not record.get("resumed"):
            yield record


def _rate(records: list[dict]) -> Rate:
    units = sum(record["work"]["units"] for record in records)
    starts = [record["startup"] for record in records if record["startup"]]
    return Rate(
        start=sum(starts) / len(starts) if starts else 0.0,
        seconds=sum(map(_seconds, records)) / units,
        bytes=sum(sum(record["sizes"].values()) for record in records) / units,
        units=units / len(records),
    )


def _seconds(record: dict) -> float:
    return (datetime.fromisoformat(record["ended"]) - datetime.fromisoformat(record["started"])).total_seconds()
