"""What figures and page are made from, and the few sums that several of them share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.compare.benefits import by_run
from diversity_spectra.compare.features import copies, without, without_failed_fits
from diversity_spectra.compare.noise import fit
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import FAMILIES, of_role
from diversity_spectra.report.style import Palette
from diversity_spectra.spectra.kinds import COMPARED

CONTROLS, MEASURES = of_role("control"), Options.measures
REJECTED = 0.01  # p up to which a power law is refused, as in the column `warning` of the spectra
COMPARABLE = tuple(name for name, family in FAMILIES.items() if family.role != "baseline")
FALLING = tuple(name for name, kind in KINDS.items() if kind.falling)
SCALES = tuple(name for name in MEASURES if COMPARED[name].log)  # these vary in proportion: averaged as logarithms


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (n,) of one matrix of one run, ascending, with the fit of their tail."""

    condition: str
    layer: str
    eigenvalues: np.ndarray
    alpha: float
    xmin: float


@dataclass(frozen=True)
class Samples:
    """Some images (classes, k, H, W, C) uint8 of one image set; blank where a class has fewer than k.

    notes: sentences on the whole set.
    """

    name: str
    family: str
    images: np.ndarray
    classes: list[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """When, how long and on what the runs were trained, as their records say. hours: of all trainings together.

    devices: runs by device. images: of the sets of which samples are shown, by name.
    """

    first: str
    last: str
    hours: float
    devices: dict[str, int]
    images: dict[str, int]


@dataclass(frozen=True)
class Material:
    """All that the report is made from. spectra: by model; samples: in the order in which they are shown.

    histories: by model, a row per run and recorded step: condition, seed, step, loss, accuracy.
    """

    tables: dict[str, pd.DataFrame]
    config: dict = field(default_factory=dict)
    samples: tuple[Samples, ...] = ()
    spectra: dict[str, list[Spectrum]] = field(default_factory=dict)
    histories: dict[str, pd.DataFrame] = field(default_factory=dict)
    made: Made | None = None
    palette: Palette = field(default_factory=Palette)

    @property
    def models(self) -> list[str]:
        """In the order of the configuration, else of the tables."""
        named = [model["name"] for model in self.config.get("models", [])]
        found = list(dict.fromkeys(self.tables["conditions"]["model"]))
        return [name for name in named if name in found] or found

    @property
    def level(self) -> float:
        return self.config.get("compare", {}).get("level", 0.05)

    @property
    def power(self) -> float:
        return self.config.get("compare", {}).get("power", Options.power)

    @property
    def confidence(self) -> str:
        """How much the intervals cover, as `95 %`."""
        return f"{100 * (1 - self.level):g} %"

    @property
    def classes(self) -> int:
        """How many have a diversity of their own; 0 where it was not measured."""
        table = self.table("diversity")
        return len(set(table["label"]) - {"mean", "overall"}) if len(table) else 0

    @cached_property
    def _copies(self) -> dict[str, pd.DataFrame]:
        """By model: runs that are copies of others."""
        spectra = self.tables.get("spectra", ())
        return {model: copies(rows) for model, rows in spectra.groupby("model")} if "seed" in spectra else {}

    def table(self, name: str, model: str | None = None) -> pd.DataFrame:
        """A table, or the part of one model; copies of a run count once, as in the comparison; empty if there is none."""
        frame = self.tables.get(name, pd.DataFrame())
        if model is None or "model" not in frame:
            return frame
        return without(frame[frame["model"] == model], self._copies.get(model, ()))

    def conditions(self, model: str) -> pd.DataFrame:
        """Conditions of a model that have runs: families in their order, kinds together, from weak to strong."""
        table = self.table("conditions", model)
        table = table[table["condition"].isin(self.table("runs", model)["condition"])]
        return in_order(table)

    def families(self, model: str) -> list[str]:
        """Those of a model, without the baseline."""
        present = set(self.conditions(model)["family"])
        return [family for family in COMPARABLE if family in present]

    def evaluation(self, model: str) -> pd.DataFrame:
        """One row per run: accuracy and ece by kind of test set (`accuracy|natural`), of the kinds that there are."""
        table = self.table("evaluation", model)
        if table.empty:
            return pd.DataFrame(columns=["condition", "seed"])
        wide = pd.concat({score: by_run(table, score) for score in ("accuracy", "ece")}, axis=1)
        wide.columns = [f"{score}|{kind}" for score, kind in wide.columns]
        return wide.dropna(axis=1, how="all").dropna(how="all").reset_index()

    def matrix(self, model: str) -> str:
        """The matrix that the claims rest on: `dW`, or `W`."""
        table = self.table("spectra", model)
        chosen = self.config.get("compare", {}).get("matrix", Options.matrix)
        return chosen if table.empty or (table["matrix"] == chosen).any() else "W"

    def spectra_of(self, model: str) -> pd.DataFrame:
        """Rows of the table of spectra for that matrix; decay-corrected dW stands for dW, where there is one."""
        table = self.table("spectra", model)
        if table.empty or self.matrix(model) == "W":
            return table[table["matrix"] == "W"] if len(table) else table
        corrected = table[table["matrix"] == "dW_corrected"]
        places = ["condition", "seed", "layer"]
        decayed = pd.MultiIndex.from_frame(table[places]).isin(pd.MultiIndex.from_frame(corrected[places]))
        return table[(table["matrix"] == "dW") & ~decayed | (table["matrix"] == "dW_corrected")]

    def rejected(self, model: str) -> str:
        """How often a power law is refused where alpha was fitted, as a sentence; empty where that was not tested."""
        table = self.spectra_of(model)
        if "goodness_p" not in table or table["goodness_p"].isna().all():
            return ""
        p = table["goodness_p"].astype(float).dropna()
        if (p > REJECTED).all():
            return f"A power law is rejected (p <= {REJECTED:g}) in none of {len(p)} fits of alpha."
        worst = table.assign(bad=table["goodness_p"].astype(float) <= REJECTED).groupby("layer")["bad"].mean()
        where = f", most in {worst.idxmax()} ({worst.max():.0%})" if worst.max() > 0 and len(worst) > 1 else ""
        return (
            f"A power law is rejected (p <= {REJECTED:g}) in {(p <= REJECTED).mean():.0%} of {len(p)} fits of alpha{where}: there "
            "alpha is a number, not an exponent."
        )

    def measures(self, model: str) -> pd.DataFrame:
        """One row per run: each measure, mean over layers (geometric for ranks); NaN where the table has no such column.

        Only layers that have the measure in every run count: a mean over changing layers would move by itself.
        """
        table = self.spectra_of(model)
        if table.empty:
            return pd.DataFrame(columns=["condition", "seed", *MEASURES], dtype=float)
        table = without_failed_fits(table)
        table = table.reindex(columns=["condition", "seed", "layer", *MEASURES])
        runs = table[["condition", "seed"]].drop_duplicates().reset_index(drop=True)
        for name in MEASURES:
            wide = table.pivot_table(index=["condition", "seed"], columns="layer", values=name, aggfunc="mean")
            wide = wide.dropna(axis=1)
            values = np.exp(np.log(wide).mean(axis=1)) if name in SCALES else wide.mean(axis=1)
            runs[name] = values.reindex(pd.MultiIndex.from_frame(runs[["condition", "seed"]])).to_numpy(dtype=float)
        return runs


def in_order(conditions: pd.DataFrame) -> pd.DataFrame:
    """Families in their order, kinds as they come but together, from weak to strong."""
    ranks = {
        "_family": conditions["family"].map(lambda family: FAMILIES[family].rank),
        "_kind": pd.factorize(conditions["kind"])[0],
        "_strength": conditions["strength"].where(~conditions["kind"].isin(FALLING), -conditions["strength"]),
    }
    ordered = conditions.assign(**ranks).sort_values(list(ranks), kind="stable", ignore_index=True)
    return ordered.drop(columns=list(ranks))


def summarise(rows: pd.DataFrame, column: str, level: float = 0.05) -> pd.DataFrame:
    """Mean with interval over the runs of each condition: index condition, columns mean, low, high, n.

    The interval is Student's with the noise model of the comparison: the run-to-run variance is pooled over conditions,
    since two or three runs say next to nothing of it, times a factor for each condition. NaN where no runs differ.
    """
    rows = rows.dropna(subset=[column])
    groups = rows.groupby("condition", sort=False)[column]
    table = pd.DataFrame({"mean": groups.mean(), "n": groups.size()})
    noise = fit(rows[[column]].to_numpy(dtype=float), table.index.get_indexer(rows["condition"]), np.zeros(1))
    half = stats.t.ppf(1 - level / 2, max(noise.df, 1)) * noise.sd * np.sqrt(noise.factor / table["n"])
    return table.assign(low=table["mean"] - half, high=table["mean"] + half)


def run_counts(conditions: Iterable[str], rows: pd.DataFrame) -> list[int]:
    """Runs of each condition in a table with one row per run; a condition without any is drawn nowhere."""
    counts = rows["condition"].value_counts()
    return [int(counts[name]) for name in conditions if name in counts]
