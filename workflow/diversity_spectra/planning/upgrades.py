"""Packages that were upgraded since results in the cache were made: said aloud, not computed anew unless asked."""

from __future__ import annotations

from collections import Counter

from diversity_spectra.execution import versions
from diversity_spectra.jobs import read_record
from diversity_spectra.planning.steps import Work


def notes(work: Work) -> list[str]:
    """One line for each package version that finished results were made with and that is another one now.

    Of a block of seeds the first result tells.
    """
    installed = versions()
    found: Counter[tuple[str, str]] = Counter()
    for step in work.steps:
        for package, version in (read_record(step.results[0]) or {}).get("packages", {}).items():
            if installed.get(package, version) != version:
                found[package, version] += 1
    return [
        f"{count} results were made with {package} {version}, installed is {installed[package]}: they are kept"
        + (f" (`packages: [{package}]` in the configuration makes them again)" if package != "python" else "")
        for (package, version), count in sorted(found.items())
    ]
