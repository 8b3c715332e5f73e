"""The tables of the page, from the tables of the comparison."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from diversity_spectra.report.comparison_figures import BENEFITS
from diversity_spectra.report.data_figures import set_families, set_label
from diversity_spectra.report.material import CONTROLS, Material, summarise
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import (
    NOTHING,
    SHIFTS,
    counted,
    fixed,
    interval,
    kernel,
    listing,
    measure,
    number,
    plain,
    probability,
)
from diversity_spectra.report.words import condition as told

QUALITY = {
    "frechet_distance": "Fréchet distance to the real images (0 = same distribution; falls with more images)",
    "kernel_distance": "kernel distance to the real images (0 = same distribution)",
    "precision": "precision: share of synthetic images that look like real ones",
    "recall": "recall: share of real images that the synthetic ones reach",
    "density": "density: how crowded real neighbourhoods are with synthetic images (1 = as real ones)",
    "coverage": "coverage: share of real neighbourhoods with a synthetic image",
    "near_copies_train_pixel": "near-copies of training images, in pixels",
    "near_copies_train_embedding": "near-copies of training images, in the embedding",
    "near_copies_test_pixel": "near-copies of test images, in pixels",
    "near_copies_test_embedding": "near-copies of test images, in the embedding",
}


def evaluation(material: Material, model: str) -> Table:
    """Accuracy on every set; likelihood and calibration in and out of distribution."""
    table = material.table("evaluation", model)
    # Synthetic images are judged by the networks too, but they are no test set: see `quality`.
    table = table[table["shift"].isin(SHIFTS)] if len(table) else table
    if table.empty:
        return Table([], [])
    sets = list(dict.fromkeys(table.sort_values("shift", key=lambda kinds: kinds.map(list(SHIFTS).index))["set"]))
    scores = {f"accuracy, {name}": _by_run(table[table["set"] == name], "accuracy") for name in sets}
    inside, outside = table[table["shift"] == "none"], table[table["shift"] != "none"]
    # Kinds of shift weigh the same, as in compare.benefits: many corruptions do not drown one natural set.
    outside = outside.groupby(["condition", "seed", "shift"], as_index=False).mean(numeric_only=True)
    for score, text in (("ece", "calibration error"), ("nll", "neg. log-likelihood"), ("brier", "Brier score")):
        for part, where in ((inside, "test"), (outside, "mean out of distribution")):
            if score in table and len(part):
                scores[f"{text}, {where}"] = _by_run(part, score)
    summaries = {name: summarise(rows, "value", material.level) for name, rows in scores.items()}
    counts = table.drop_duplicates(["condition", "seed"])["condition"].value_counts()
    rows = []
    for condition in material.conditions(model)["condition"]:
        cells = [
            interval(*part.loc[condition, ["mean", "low", "high"]]) if condition in part.index else NOTHING
            for part in summaries.values()
        ]
        rows.append([told(condition), str(counts.get(condition, 0)), *cells])
    return Table(["condition", "runs", *scores], rows)


def diversity(material: Material) -> Table:
    """Vendi scores: mean over classes for each kernel and order, and over all images."""
    table = material.table("diversity")
    if table.empty:
        return Table([], [])
    table = table.assign(order=table["order"].astype(str))
    kernels, orders = list(dict.fromkeys(table["kernel"])), list(dict.fromkeys(table["order"]))
    table = table.drop_duplicates(["training_set", "kernel", "order", "label"])
    known = table.set_index(["training_set", "kernel", "order", "label"])
    columns = [(name, order, "mean") for name in kernels for order in orders]
    columns += [(name, orders[0], "overall") for name in kernels]
    rows = []
    for name in set_families(material):
        if name not in set(table["training_set"]):
            continue
        cells = [
            interval(*known.loc[(name, *key), ["score", "low", "high"]].astype(float), 2) if (name, *key) in known.index
            else NOTHING for key in columns
        ]  # fmt: skip
        rows.append([set_label(name), *cells])
    head = [
        f"{kernel(name)}, {'per class' if label == 'mean' else 'all classes together'}, order {order}"
        for name, order, label in columns
    ]
    return Table(["training set", *head], rows)


def quality(material: Material) -> Table:
    """Synthetic images against real ones."""
    table = material.table("quality")
    table = table[table["label"].isin(["mean", "overall"])] if len(table) else table
    rows = []
    for row in table.to_dict("records"):
        digits = 3 if abs(row["value"]) < 10 else 1
        text = QUALITY.get(row["measure"], plain(row["measure"]))
        unit = "images" if row["measure"].startswith("near_copies") else "images per class"
        rows.append([text, interval(row["value"], row["low"], row["high"], digits), f"{int(row['n'])} {unit}"])
    return Table(["measure", "value", "n"], [*rows, *_agreement(material)])


def _agreement(material: Material) -> list[list[str]]:
    """How often plainly trained networks see in a synthetic image the class that it was made for."""
    rows = []
    for model in material.models:
        conditions, table = material.conditions(model), material.table("evaluation", model)
        baseline = conditions.loc[conditions["family"] == "baseline", "condition"]
        own = table[(table["shift"] == "synthetic") & table["condition"].isin(baseline)] if len(table) else table
        for row in summarise(own, "accuracy", material.level).itertuples() if len(own) else ():
            text = f"label agreement: {model}, trained on no synthetic image, sees the class that was asked for"
            rows.append([text, interval(row.mean, row.low, row.high), counted([row.n])])
    return rows


def shifts(material: Material, model: str) -> Table:
    """The strongest shift of every condition, and how many pass the correction."""
    table = material.table("shift", model)
    if table.empty:
        return Table([], [])
    # Raw dW under weight decay is arithmetic, not evidence.
    table = table[~table["test_family"].str.contains("not corrected", na=False)]
    rows = []
    for condition in material.conditions(model)["condition"]:
        own = table[(table["condition"] == condition) & np.isfinite(table["standardised"])]
        if own.empty:
            continue
        best = own.loc[own["t"].abs().idxmax()]
        rows.append(
            [
                told(condition),
                f"{measure(best['measure'])} of {best['layer']} ({plain(best['matrix'])})",
                f"{number(best['shift'])}{' (log10)' if best['unit'] == 'log10' else ''}",
                fixed(best["standardised"], 1, sign=True),
                number(best["minimum_detectable"] / best["noise_sd"], 2),
                probability(best["q"]),
                f"{int((own['q'] < material.level).sum())} of {len(own)}",
                f"{int(best['n'])} / {int(best['n_baseline'])}",
            ]
        )
    head = ["condition", "strongest shift", "size", "in noise units", "smallest detectable, noise units", "q"]
    return Table([*head, f"shifts with q < {material.level:g}", "runs / baseline runs"], rows, 2)


def metric(material: Material, model: str) -> Table:
    """Equivalents, gains and efficiency of every condition."""
    table = material.table("metric", model)
    if table.empty:
        return Table([], [])
    kernels = [name.removeprefix("efficiency_") for name in table if name.startswith("efficiency_")]
    kernels = [name for name in kernels if f"{name}_low" in kernels]
    families = [family for family in CONTROLS if f"{family}_equivalent" in table]
    order = {name: place for place, name in enumerate(material.conditions(model)["condition"])}
    rows = []
    for row in sorted(table.to_dict("records"), key=lambda row: order.get(row["condition"], len(order))):
        cells = [told(row["condition"]), str(int(row["n"]))]
        for family in families:
            text = _interval(row, f"{family}_equivalent", 2)
            beyond = bool(row.get(f"{family}_beyond")) and text != NOTHING
            cells += [f"at least {text}" if beyond else text, _interval(row, f"{family}_residual", 2)]
        cells.append(_interval(row, "regularisation_gain", 1))
        for name in kernels:
            cells += [_interval(row, f"diversity_gain_{name}", 2), _interval(row, f"efficiency_{name}", 1)]
        rows.append(cells)
    head = ["condition", "runs"]
    for family in families:
        head += [f"{plain(family)} equivalent", f"left unexplained by {plain(family)}"]
    head.append("regularisation gain")
    for name in kernels:
        head += [f"diversity gain, {kernel(name)}", f"efficiency, {kernel(name)}"]
    return Table(head, rows)


def validation(material: Material, model: str) -> Table:
    """Rank correlation of every predictor with every benefit."""
    table = material.table("validation", model)
    if table.empty:
        return Table([], [])
    table = table[table["scope"] == "data"]
    benefits = list(dict.fromkeys(table["benefit"]))
    rows = []
    for predictor, group in table.groupby("predictor", sort=False):
        known = group.drop_duplicates("benefit").set_index("benefit")
        cells = [interval(*known.loc[name, ["correlation", "low", "high"]].astype(float), 2) for name in benefits]
        rows.append([_predictor(str(predictor)), *cells, str(int(group["n"].max()))])
    return Table(["predictor", *map(_benefit, benefits), "conditions"], rows)


def prediction(material: Material, model: str) -> str:
    """Whether the metric predicts a benefit, and what predicts best, over conditions with other data."""
    table = material.table("validation", model)
    if table.empty:
        return ""
    table = table[table["scope"] == "data"]
    known = table[table["low"].notna()]
    if known.empty:
        return f"With {counted([table['n'].max()], 'condition')} with other data than the baseline it cannot be said."
    clear = (known["low"] > 0) | (known["high"] < 0)
    own = known["predictor"] == "regularisation_gain"
    seen, unseen = ([_correlated(row) for _, row in known[own & side].iterrows()] for side in (clear, ~clear))
    parts = [f"excludes 0 for {listing(seen)}"] * bool(seen) + [f"contains 0 for {listing(unseen)}"] * bool(unseen)
    text = (
        f"Over {counted([known['n'].max()], 'condition')} with other data than the baseline, the interval of the "
        f"regularisation gain's rank correlation {' and '.join(parts) or 'is not known'}. "
    )
    if not clear.any():
        return f"{text}No predictor has a correlation whose interval excludes 0 ({len(known)} were tried)."
    best = known.loc[known["correlation"][clear].abs().idxmax()]
    return (
        f"{text}Of {len(known)} correlations that were tried, the largest whose interval excludes 0 is that between "
        f"{_predictor(best['predictor'])} and {_correlated(best)}."
    )


def _correlated(row: pd.Series) -> str:
    """A benefit with its rank correlation."""
    numbers = interval(*row[["correlation", "low", "high"]].astype(float), 2)
    return f"{_benefit(row['benefit'])} ({numbers})"


def _benefit(name: str) -> str:
    return BENEFITS[name].replace("\n", " ")


def skipped(material: Material) -> Table:
    """Matrices that were not analysed, or not fully, with the reason."""
    table = material.table("spectra")
    if table.empty or "reason" not in table:
        return Table([], [])
    table = table[table["reason"].fillna("") != ""]
    rows = []
    for (model, _), group in table.groupby(["model", table["reason"].str.replace(r"\d+", "0", regex=True)], sort=False):
        names = list(dict.fromkeys(group["layer"]))
        told_names = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        runs = group.drop_duplicates(["condition", "seed"])
        matrices = ", ".join(dict.fromkeys(group["matrix"]))
        reason = _joined(group["reason"].unique())
        rows.append([model, reason, matrices, told_names, str(len(names)), str(len(runs))])
    return Table(["network", "reason", "matrices", "layers", "number of layers", "runs"], rows, 4)


def _joined(reasons: Iterable[str]) -> str:
    """Reasons that differ in their numbers alone as one: `32 to 480 matrices of 1 x 9`."""
    pieces = zip(*(re.split(r"(\d+)", reason) for reason in reasons), strict=True)
    return "".join(counted(list(map(int, piece)), "") if piece[0].isdigit() else piece[0] for piece in pieces)


def diverged(material: Material) -> list[str]:
    """Runs whose training broke off."""
    runs = material.table("runs")
    if "diverged" not in runs:
        return []
    broken = runs[runs["diverged"].fillna(False).astype(bool)]
    return [f"{row.model}, {told(row.condition)}, seed {row.seed}" for row in broken.itertuples()]


def _by_run(table: pd.DataFrame, score: str) -> pd.DataFrame:
    return table.groupby(["condition", "seed"])[score].mean().rename("value").reset_index()


def _interval(row: dict, name: str, digits: int) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)


def _predictor(name: str) -> str:
    for start, text in (("diversity_gain_", "diversity gain"), ("efficiency_", "efficiency")):
        if name.startswith(start):
            return f"{text}, {kernel(name.removeprefix(start))}"
    return {"mean_alpha_shift": "shift of mean alpha"}.get(name, plain(name))
