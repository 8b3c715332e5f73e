"""The tables of the page, from the tables of the comparison."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

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
    signs,
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


DIGITS = {"a": 2, "b": 2, "c": 4, "d": 4}  # of a claim's effect, as its reason has them
NOT_ASKED = "not in this experiment"
VERDICTS = ("supported", "contradicted", "inconclusive", NOT_ASKED)


@dataclass(frozen=True)
class Judged:
    """One claim for one network, as text."""

    model: str
    verdict: str
    effect: str
    n: str
    reason: str


@dataclass(frozen=True)
class Claim:
    letter: str
    statement: str
    estimand: str
    judged: list[Judged]


def lead(material: Material) -> list[tuple[str, str]]:
    """The answer in a few words per network."""
    answers = []
    for model in material.models:
        controls = material.table("controls", model)
        whole = controls[controls["condition"] == ""] if len(controls) else controls
        seen = [plain(row.family) for row in whole.itertuples() if row.detected]
        unseen = [plain(row.family) for row in whole.itertuples() if not row.detected]
        if seen and unseen:
            text = f"{listing(seen)} shifts the spectra beyond the noise, {listing(unseen)} does not"
        elif seen:
            text = f"{listing(seen)} {'shift' if len(seen) > 1 else 'shifts'} the spectra beyond the noise"
        elif unseen:
            none = (
                f"neither {unseen[0]} nor {listing(unseen[1:], 'or')}" if len(unseen) > 1 else f"not even {unseen[0]}"
            )
            text = f"{none} can be told from the noise between runs, so nothing can be compared with {_them(unseen)}"
            if (whole["p_floor"] >= material.level).all():
                text += " (so few runs could not have shown any effect)"
        else:
            text = "no regulariser was run, so there is nothing to compare with"
        text += "".join(_costs(material, model, family) for family in dict.fromkeys(whole.get("family", ())))
        claims = material.table("claims", model)
        judged = verdicts(claims).value_counts() if len(claims) else {}
        counts = [f"{judged[name]} {name}" for name in VERDICTS if name in judged]
        text += f". Claims: {listing(counts)}." if counts else ". No claim was judged."
        answers.append((model, text[0].upper() + text[1:]))
    return answers


def _costs(material: Material, model: str, family: str) -> str:
    """That a regulariser lowers the test accuracy at every strength, where it does."""
    conditions = material.conditions(model)
    gains = _gains(material, model, list(conditions.loc[conditions["family"] == family, "condition"]))
    if gains.empty or not (gains["id_accuracy_gain_high"] < 0).all():
        return ""
    return f"; {plain(family)} lowers the test accuracy at every strength ({_accuracy_change(gains)})"


def _them(items: list[str]) -> str:
    return "them" if len(items) > 1 else "it"


def controls(material: Material, strengths: bool = True) -> Table:
    """Families, each followed by its strengths where it has several; without strengths, families alone."""
    table = material.table("controls")
    rows = []
    for (model, family), group in table.groupby(["model", "family"], sort=False) if len(table) else ():
        members = list(group.loc[group["condition"] != "", "condition"])
        alone = told(members[0]) if strengths else plain(family)
        several = strengths and len(members) > 1
        for row in group[several | (group["condition"] == "")].to_dict("records"):
            name = told(row["condition"]) or (f"{plain(family)}, all strengths" if several else alone)
            rows.append(
                [
                    model,
                    name,
                    "detected" if row["detected"] else "not detected",
                    fixed(row["effect"], 2),
                    fixed(row["smallest_detectable"], 2),
                    probability(row["q"]),
                    probability(row["p_floor"]),
                    _accuracy_change(_gains(material, model, [row["condition"]] if row["condition"] else members)),
                    f"{int(row['n'])} / {int(row['n_baseline'])}",
                ]
            )
    head = ["network", "regulariser", "result", "effect", "smallest detectable", "corrected p", "least possible p"]
    return Table([*head, "change of test accuracy", "runs / baseline runs"], rows, 3)


def _gains(material: Material, model: str, conditions: list[str]) -> pd.DataFrame:
    """Rows of the metric for these conditions, where their test accuracy is known."""
    table = material.table("metric", model)
    if table.empty:
        return table
    return table[table["condition"].isin(conditions) & table["id_accuracy_gain"].notna()]


def _accuracy_change(gains: pd.DataFrame) -> str:
    """Of one condition with its interval, of several from the lowest to the highest."""
    if gains.empty:
        return NOTHING
    if len(gains) == 1:
        return _interval(gains.iloc[0], "id_accuracy_gain", 3, sign=True)
    change = gains["id_accuracy_gain"]
    return f"{fixed(change.min(), sign=True)} to {fixed(change.max(), sign=True)}"


def verdicts(claims: pd.DataFrame) -> pd.Series:
    """Of a table of claims, with NOT_ASKED where nothing but the conditions of the experiment was missing."""
    unasked = claims["reason"].str.fullmatch(r"([^;]* this experiment(; |\.))+") & (claims["n"] == 0)
    return claims["verdict"].mask(unasked, NOT_ASKED)


def claims(material: Material) -> list[Claim]:
    """Every claim with its verdict for each network."""
    table = material.table("claims")
    table = table.assign(verdict=verdicts(table)) if len(table) else table
    result = []
    for letter, rows in table.groupby("claim", sort=True) if len(table) else ():
        judged = [
            Judged(
                row["model"],
                row["verdict"],
                interval(row["effect"], row["low"], row["high"], DIGITS[letter], sign=True),
                str(int(row["n"])) if row["n"] else NOTHING,
                _reason(row["reason"], list(material.conditions(model)["condition"])),
            )
            for model in material.models
            for row in rows[rows["model"] == model].to_dict("records")
        ]
        result.append(Claim(str(letter), rows["statement"].iloc[0], rows["estimand"].iloc[0], judged))
    return result


def _reason(text: str, conditions: list[str]) -> str:
    """The reason for a verdict, its conditions, kernels and numbers written as everywhere on the page."""
    names = "|".join(map(re.escape, sorted(conditions, key=len, reverse=True)))
    text = re.sub(rf"(?<=of )({names})(?= )", lambda found: told(found[0]), text)
    text = re.sub(r"(: |, )(\w+)(?= [+-]\d)", lambda found: f"{found[1].replace(',', ';')}{kernel(found[2])}", text)
    return signs(text)


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


def _interval(row: dict | pd.Series, name: str, digits: int, sign: bool = False) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits, sign)


def _predictor(name: str) -> str:
    for start, text in (("diversity_gain_", "diversity gain"), ("efficiency_", "efficiency")):
        if name.startswith(start):
            return f"{text}, {kernel(name.removeprefix(start))}"
    return {"mean_alpha_shift": "shift of mean alpha"}.get(name, plain(name))
