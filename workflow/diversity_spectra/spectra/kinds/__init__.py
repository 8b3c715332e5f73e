"""Measures of one matrix, one module for those that are computed together.

To add a measure is to add a module here with a `KIND` (`spectra.kind.Kind`): its name, unit, formula, label, whether it is
compared on a log scale, what it holds for, and the function. The table of spectra, its reference page, the comparison and
the report take all that from this registry. docs/spectra.md derives what takes more than a line.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

from diversity_spectra.spectra.job import MODULES
from diversity_spectra.spectra.kind import Kind, Measure


def _registered() -> list[Kind]:
    found = []
    for module in MODULES:
        kind: Kind = importlib.import_module(f"diversity_spectra.{module}").KIND
        own = {
            name: replace(one, source=one.source or f"{module}.{kind.measure.__name__}")
            for name, one in kind.measures.items()
        }
        found.append(replace(kind, measures=own))
    return sorted(found, key=lambda kind: kind.rank)


KINDS = _registered()
MEASURES: dict[str, Measure] = {name: measure for kind in KINDS for name, measure in kind.measures.items()}
COMPARED = {name: measure for name, measure in MEASURES.items() if measure.label}
ALIGNED = tuple(name for name, measure in COMPARED.items() if measure.aligned)
BESIDE = tuple(name for name, measure in COMPARED.items() if measure.beside)
