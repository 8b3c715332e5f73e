"""The tables `layer_shifts` and `layer_tests`, of every network and of networks with the same layers together."""

from __future__ import annotations

import pandas as pd

from diversity_spectra.compare.across import across_table, alike
from diversity_spectra.compare.layer_shifts import SHIFTS, changes, shifts_table, tests_table
from diversity_spectra.compare.options import Options

TESTS = [
    "measure", "head", "statistic", "families", "layers", "value", "p_layers", "null_low", "null_median", "null_high",
    "null_significant", "null_closed", "p_relabelled", "p_holm", "p_floor", "relabellings", "all_relabellings",
    "dealt_median", "dealt_significant", "deals", "signs", "note",
]  # fmt: skip


def layer_tables(spectra: pd.DataFrame, conditions: pd.DataFrame, options: Options) -> dict[str, pd.DataFrame]:
    """Both tables; column `model` names a network, or several that are averaged: `a, b`."""
    sets = {}
    for model in sorted(conditions["model"].unique()):
        found = changes(*(frame[frame["model"] == model] for frame in (spectra, conditions)))
        if found is not None and len(found.layers):
            sets[model] = found
    shifts, tests = [pd.DataFrame(columns=SHIFTS)], [pd.DataFrame(columns=TESTS)]
    for names in [[model] for model in sets] + alike(sets):
        own, label = [sets[name] for name in names], ", ".join(names)
        shifts.append(shifts_table(own).assign(model=label))
        tests.append(tests_table(own, label, options).assign(model=label))
        tests.append(across_table(own, label, options).assign(model=label))
    table = _joined(tests, TESTS)
    table["p_floor"] = table["p_floor"].clip(lower=1 / table["relabellings"].astype(float))
    return {"layer_shifts": _joined(shifts, SHIFTS), "layer_tests": table}


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    return table.reindex(columns=["model", *columns])
