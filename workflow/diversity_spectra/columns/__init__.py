"""Every column of the tables in `results/<experiment>/tables/`: its unit, its formula and the function that computes it.

Words only: nothing is computed from them. `make reference` prints them as docs/reference/tables.md, and the tests
compare them with the columns that a run writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra.column import Column, expand
from diversity_spectra.columns import comparison, experiment, layers, spectra

__all__ = ["TABLES", "Table", "expand", "names"]


@dataclass(frozen=True)
class Table:
    """rows: what one row is. columns: by name; `a{,_low,_high}` stands for `a`, `a_low` and `a_high`."""

    rows: str
    columns: dict[str, Column]


TABLES = {
    "runs": Table("a run: model, condition and seed", experiment.RUNS),
    "conditions": Table("a condition of a model", experiment.CONDITIONS),
    "diversity": Table("a training set, kernel, order and class", experiment.DIVERSITY),
    "quality": Table("a measure of the synthetic images against real ones, and a class", experiment.QUALITY),
    "evaluation": Table("a run and a test set", experiment.EVALUATION),
    "spectra": Table("a run, layer and matrix", spectra.SPECTRA),
    "shift": Table("a condition, layer, matrix and measure", comparison.SHIFT),
    "controls": Table("a control family, or one strength of it", comparison.CONTROLS),
    "alignment": Table("a condition and what it is compared with", comparison.ALIGNMENT),
    "beyond": Table("a condition, and what of optimisation is projected out", comparison.BEYOND),
    "metric": Table("a condition other than the baseline", comparison.METRIC),
    "relation": Table("a kernel, and a side of the shift", comparison.RELATION),
    "validation": Table("a scope, predictor and benefit", comparison.VALIDATION),
    "claims": Table("a claim about a model", comparison.CLAIMS),
    "robustness": Table("a claim about spectra, and a choice made otherwise", comparison.ROBUSTNESS),
    "layer_shifts": Table("a family, layer and measure of W, as in the study", layers.LAYER_SHIFTS),
    "layer_tests": Table("a statistic of the study, with or without the head", layers.LAYER_TESTS),
    "gains": Table("a family of conditions of a model, and a benefit; in sweeps only", comparison.GAINS),
}


def names(table: str, always: bool = False) -> set[str]:
    """All column names of a table; `always`: only those that every run writes."""
    columns = TABLES[table].columns.items()
    return {full for name, column in columns if not (always and column.when) for full in expand(name)}
