"""Packages that were upgraded since results in the cache were made: said aloud, not computed anew unless asked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from diversity_spectra.execution import versions
from diversity_spectra.planning.union import Union


def notes(made: Union) -> list[str]:
    """One line for each package version that finished results were made with and that is another one now."""
    installed = versions()
    found: Counter[tuple[str, str]] = Counter()
    for record in _records(made):
        for package, version in record.get("packages", {}).items():
            if installed.get(package, version) != version:
                found[package, version] += 1
    return [
        f"{count} results were made with {package} {version}, installed is {installed[package]}: they are kept"
        f" (`packages: [{package}]` in the configuration makes everything again)"
        for (package, version), count in sorted(found.items())
    ]


def _records(made: Union) -> list[dict]:
    """The record of each finished result; of the first seed where a result has many."""
    places = [Path(job.out) for jobs in made.jobs.values() for job in jobs.values()]
    records = []
    for place in places:
        for file in (place / "spec.json", place / "seed-0" / "spec.json"):
            try:
                records.append(json.loads(file.read_text()))
                break
            except (OSError, ValueError):
                continue
    return records
