"""Known answers asked of real trainings, and the measures that show the controls best.

    snakemake --cores 2 --configfile benchmarks/controls.yaml
    python benchmarks/bench_controls.py [--tables results/controls/tables]

The experiment trains the default's small network with its controls. Here its tables are read, and printed are, as Markdown
(benchmarks/controls.md): how far each measure moves under dropout and decay; how decay's shift compares with its arithmetic
alone, made from the baseline's spectra; and what the claims say where runs trained for longer, at a higher rate or with
softer labels are handed to the comparison as an augmentation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from diversity_spectra.compare.features import STANDS_FOR, collect
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.study import INPUTS, compare
from diversity_spectra.spectra.kinds import ALIGNED, BESIDE

LETTERS = ("a", "b", "e")
# Conditions told as an augmentation -> what remains of optimisation.
DISGUISES = {
    "steps-1.5x": ("steps-0.5x", "steps-1.25x", "lr-0.5x", "lr-2x"),
    "steps-1.5x, others of its kind unknown": ("steps-0.5x", "lr-0.5x", "lr-2x"),
    "lr-2x": ("steps-0.5x", "steps-1.5x", "lr-0.5x"),
    "label_smoothing-0.1": ("steps-0.5x", "steps-1.5x", "lr-0.5x", "lr-2x"),
}
DESIGNS = ((3, 6), (5, 10), (8, 16))


def power(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Welch's t of each measure under dropout and weight decay, root mean square over layers and strengths, by matrix."""
    features = collect(tables["spectra"], tables["runs"], tables["conditions"])
    families, rows = features.conditions["family"], []
    for matrix, stands in STANDS_FOR.items():
        for measure in (*ALIGNED, *BESIDE):
            own = ((features.names["matrix"] == stands) & (features.names["measure"] == measure)).to_numpy()
            own = own & np.isfinite(features.vectors).all(axis=0)
            row = {"matrix": matrix, "measure": measure, "layers": int(own.sum())}
            for family in ("dropout", "weight_decay"):
                found = []
                for index in np.flatnonzero(families == family):
                    one, other = (features.vectors[features.group == place][:, own] for place in (index, 0))
                    error = np.sqrt(one.var(axis=0, ddof=1) / len(one) + other.var(axis=0, ddof=1) / len(other))
                    found.append((one.mean(axis=0) - other.mean(axis=0)) / error)
                row[family] = np.sqrt(np.mean(np.square(found))) if own.any() else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def disguised(tables: dict[str, pd.DataFrame], name: str, left: tuple[str, ...]) -> dict[str, pd.DataFrame]:
    """The same runs, those of one condition of optimisation told as an augmentation, with no other data condition."""
    conditions = tables["conditions"]
    told = name.split(",")[0]
    keep = conditions["family"].isin(["baseline", "dropout", "weight_decay"]) | conditions["condition"].isin(
        [told, *left]
    )
    conditions = conditions[keep].reset_index(drop=True)
    own = conditions["condition"] == told
    conditions.loc[own, ["family", "kind", "strength"]] = ["augmentation", "disguised", 1.0]
    return tables | {"conditions": conditions}


def fewer(tables: dict[str, pd.DataFrame], seeds: int, baseline_runs: int) -> dict[str, pd.DataFrame]:
    """The first runs of each condition."""
    baseline = tables["conditions"].query("family == 'baseline'")["condition"]

    def first(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["seed"] < np.where(table["condition"].isin(baseline), baseline_runs, seeds)]

    return tables | {name: first(tables[name]) for name in ("runs", "evaluation", "spectra")}


def verdicts(tables: dict[str, pd.DataFrame], matrix: str) -> dict[str, str]:
    """By claim its verdict, with what stands in the way where nothing was estimated."""
    found = compare(tables, Options(matrix=matrix, robustness=False))["claims"].set_index("claim")
    cells = {}
    for letter in LETTERS:
        row = found.loc[letter]
        missing = [fact["code"] for fact in json.loads(row["details"]).get("missing", [])]
        known = f" {row['effect']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if np.isfinite(row["effect"]) else ""
        cells[letter] = f"{row['verdict']}{known}{' (' + ', '.join(dict.fromkeys(missing)) + ')' if missing else ''}"
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=Path("results/controls/tables"))
    folder = parser.parse_args().tables
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in INPUTS}
    print("| matrix | measure | layers | dropout | weight decay |\n| --- | --- | --- | --- | --- |")
    for row in power(tables).itertuples(index=False):
        print(f"| {row.matrix} | `{row.measure}` | {row.layers} | {row.dropout:.1f} | {row.weight_decay:.1f} |")
    print("\n| told as an augmentation | matrix | runs | (a) | (b) | (e) |\n| --- | --- | --- | --- | --- | --- |")
    for name, left in DISGUISES.items():
        for matrix in STANDS_FOR:
            for seeds, baseline_runs in DESIGNS:
                cells = verdicts(fewer(disguised(tables, name, left), seeds, baseline_runs), matrix)
                print(f"| {name} | {matrix} | {seeds} / {baseline_runs} | {' | '.join(cells.values())} |", flush=True)


if __name__ == "__main__":
    main()
