"""The metric of diversity, and whether it predicts what a technique is good for."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from diversity_spectra.report.marks import NUMBERS, number_key, numbered, write_number
from diversity_spectra.report.material import CONTROLS, Material
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import MUTED, WIDTH, Drawing, canvas, family_legend, marker, near_marks, zero_lines
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import BENEFITS, NOTHING, counted, interval, kernel, listing, plain, probability
from diversity_spectra.report.words import condition as told

SHIFT_SIDES = {
    "length_along_dropout": "along dropout",
    "length_along_weight_decay": "along weight decay",
    "length": "length of the whole shift",
}


def diversity_shift(material: Material, model: str) -> Drawing:
    """The title question: kernels across, sides of the shift down; a mark per condition of data, fit and correlation."""
    table, relation = material.table("metric", model), material.table("relation", model)
    if relation.empty or not np.isfinite(relation["correlation"]).any():
        return Drawing(
            "Diversity cannot be drawn against shift: it takes four kinds of other data whose diversity and shift are known."
        )
    conditions = material.conditions(model)
    plain_set = conditions.loc[conditions["family"] == "baseline", "training_set"]
    data = table[~table["training_set"].isin(plain_set) & (table["family"] != "checkpoint")]
    kernels = [name for name in dict.fromkeys(relation["kernel"]) if data[f"diversity_gain_{name}"].notna().any()]
    sides = [name for name in SHIFT_SIDES if data[name].notna().any()]
    figure, axes = canvas(WIDTH, 0.9 + 1.75 * len(sides), len(sides), len(kernels), sharex="col", sharey="row")
    conditions = conditions[conditions["condition"].isin(data["condition"])]
    numbers = numbered(conditions)
    for row, side in zip(axes, sides, strict=True):
        for ax, name in zip(row, kernels, strict=True):
            gain = f"diversity_gain_{name}"
            known = relation[(relation["kernel"] == name) & (relation["shift"] == side)].iloc[0]
            ends = data[gain].dropna()
            if np.isfinite(known["slope"]) and len(ends):
                reach = np.array([ends.min(), ends.max()])
                ax.plot(reach, known["intercept"] + known["slope"] * reach, color=MUTED, lw=0.9, zorder=1)
            for one in data.to_dict("records"):
                if not (np.isfinite(one[gain]) and np.isfinite(one[side])):
                    continue
                colour = material.palette.colour(one["family"])
                ax.plot([one[f"{gain}_low"], one[f"{gain}_high"]], [one[side]] * 2, color=colour, lw=0.7, alpha=0.7)
                if f"{side}_low" in one:
                    ax.plot([one[gain]] * 2, [one[f"{side}_low"], one[f"{side}_high"]], color=colour, lw=0.7, alpha=0.7)
                ax.plot(one[gain], one[side], marker(one["family"]), color=colour, ms=4, zorder=3)
                write_number(ax, numbers.get(one["condition"], ""), one[gain], one[side], colour)
            zero_lines(ax)
            ax.set_title(_relation(known), fontsize=7)
    for row, side in zip(axes, sides, strict=True):
        row[0].set_ylabel(f"shift {SHIFT_SIDES[side]}" if side != "length" else SHIFT_SIDES[side])
        for ax, name in zip(row, kernels, strict=True):
            near_marks(ax, data[f"diversity_gain_{name}"].dropna(), data[side].dropna())
    for ax, name in zip(axes[-1], kernels, strict=True):
        ax.set_xlabel(f"gain in ln(Vendi), {kernel(name)}")
    kinds = number_key(conditions, numbers)
    own = [name for name in material.families(model) if name in set(data["family"])]
    family_legend(figure, material.palette, own, baseline=False, numbers=kinds)
    n = counted(list(relation["n"]), "kind")
    caption = (
        "Do training sets that are more diverse move the spectra further, and along which regulariser? Each mark is a condition with "
        f"other data than the plain set, with the {material.confidence} intervals of both numbers; right of 0: more diverse "
        "than the plain set; shifts in run-to-run standard deviations. Over "
        f"n = {n}, each with the mean of its strengths: in grey the line of Theil and Sen; above each panel Spearman's rank correlation "
        "with its interval and its p, corrected for the search over kernels, and the same with the training loss taken out of both sides, since data that are harder to "
        f"fit move the weights whether diverse or not."
    )
    return Drawing(caption, figure)


def _relation(row: pd.Series) -> str:
    if not np.isfinite(row["correlation"]):
        return "rank correlation: too few kinds"
    plain_part = f"{interval(*row[['correlation', 'low', 'high']].astype(float), 2)}, p {probability(row['p'])}"
    partial = interval(*row[["partial", "partial_low", "partial_high"]].astype(float), 2)
    return f"{plain_part}\nless training loss: {partial}"


def related(material: Material, model: str) -> str:
    """The answer to the title question in words: which correlations of diversity with the shift pass the correction."""
    table = material.table("relation", model)
    if table.empty or table["p"].isna().all():
        return ""
    known = table[table["p"].notna()]
    clear = known[known["p"] < material.level]
    n = counted([known["n"].max()], "kind")
    if clear.empty:
        return (
            f"Over {n} of other data, no correlation of the gain in diversity with the shift can be told from 0, corrected for the "
            f"search over kernels ({len(known)} tried)."
        )
    told_rows = []
    for row in clear.itertuples():
        stays = (
            "; it stays with the training loss taken out"
            if row.partial_p < material.level and row.partial * row.correlation > 0
            else ("; with the training loss taken out it cannot be told from 0" if np.isfinite(row.partial_p) else "")
        )
        numbers = interval(row.correlation, row.low, row.high, 2, sign=True)
        told_rows.append(f"{kernel(row.kernel)}, {SHIFT_SIDES[row.shift]} {numbers}{stays}")
    return (
        f"Over {n} of other data, of {len(known)} rank correlations tried these can be told from 0, corrected for the search over "
        f"kernels: {'. '.join(told_rows)}."
    )


def not_diverse(material: Material, model: str) -> str:
    """Conditions of data whose training set cannot be told to be more diverse than the plain one, by kernel."""
    table = material.table("metric", model)
    conditions = material.conditions(model)
    plain_set = conditions.loc[conditions["family"] == "baseline", "training_set"]
    data = table[~table["training_set"].isin(plain_set) & (table["family"] != "checkpoint")] if len(table) else table
    parts = []
    for column in (
        name for name in data if name.startswith("diversity_gain_") and not name.endswith(("_low", "_high"))
    ):
        own = data[data[column].notna()]
        known = own[f"{column}_low"].where(own[f"{column}_low"].notna(), own[column])
        names = [told(name) for name in own.loc[known <= 0, "condition"]]
        if len(own):
            said = f"{len(names)} of {len(own)} ({listing(names)})" if names else f"none of {len(own)}"
            parts.append(f"{kernel(column.removeprefix('diversity_gain_'))}: {said}")
    return (
        f"Training sets that cannot be told to be more diverse than the plain one: {'; '.join(parts)}." if parts else ""
    )


def metric(material: Material, model: str) -> Drawing:
    """Predictors across, benefits down; title: rank correlation over data conditions."""
    table = material.table("metric", model)
    if table.empty:
        return Drawing("The metric could not be computed for this model.")
    ends = [name.removesuffix("_low") for name in table if name.startswith("diversity_gain_") and name.endswith("_low")]
    kernels = [name.removeprefix("diversity_gain_") for name in ends if table[name].notna().any()]
    best = [name for name in ("embedding", *kernels) if name in kernels][:1]
    predictors = {"length_along_dropout": "length along dropout\n(of the shift, noise units)"}
    predictors |= {f"diversity_gain_{name}": f"diversity gain ln(Vendi)\n({kernel(name)})" for name in best}
    predictors["mean_alpha_shift"] = "shift of mean alpha"
    predictors = {name: label for name, label in predictors.items() if table[name].notna().any()}
    benefits = [name for name in BENEFITS if table[f"{name}_gain"].notna().any()]
    if not predictors or not benefits:
        return Drawing("The metric cannot be drawn: dropout has no direction here, or no benefit was measured.")
    validation = material.table("validation", model)
    figure, axes = canvas(WIDTH, 0.8 + 1.85 * len(benefits), len(benefits), len(predictors), sharex="col", sharey="row")
    conditions = material.conditions(model)
    numbers = numbered(conditions)
    for row, benefit in zip(axes, benefits, strict=True):
        for ax, predictor in zip(row, predictors, strict=True):
            _benefit_panel(ax, table, predictor, f"{benefit}_gain", material, numbers)
            ax.set_title(_correlation(validation, predictor, benefit), fontsize=7)
    for row, benefit in zip(axes, benefits, strict=True):
        row[0].set_ylabel(BENEFITS[benefit])
        for ax, predictor in zip(row, predictors, strict=True):
            near_marks(ax, table[predictor].dropna(), table[f"{benefit}_gain"].dropna())
    for ax, label in zip(axes[-1], predictors.values(), strict=True):
        ax.set_xlabel(label)
    kinds = number_key(conditions, numbers)
    family_legend(figure, material.palette, material.families(model), baseline=False, numbers=kinds)
    scope = validation[validation["scope"] == "data"] if len(validation) else validation
    hollow = " (hollow: a regulariser)" if table["family"].isin(CONTROLS).any() else ""
    caption = (
        f"Does the metric predict the benefit? Each mark is a condition{hollow} with the {material.confidence} intervals of "
        f"both numbers{NUMBERS if numbers else ''}; benefits are gains over the baseline."
    )
    if len(scope):
        caption += (
            " Above each panel: Spearman's rank correlation with its interval and p, over n = "
            f"{counted([int(scope['n'].max())], 'kind')} of data: a kind counts once, with the mean over its strengths, and "
            "predictor and benefit are from different runs. p is corrected for all predictors that were tried."
        )
    others = ["diversity alone"] * len(best) + ["mean alpha alone"] * ("mean_alpha_shift" in predictors)
    if "length_along_dropout" in predictors and others:
        caption += f" Compare the metric (left) with {' and with '.join(others)}."
    return Drawing(caption, figure)


def _benefit_panel(
    ax: Axes, table: pd.DataFrame, predictor: str, gain: str, material: Material, numbers: dict[str, str]
) -> None:
    for row in table.to_dict("records"):
        x, y = row[predictor], row[gain]
        if not (np.isfinite(x) and np.isfinite(y)):
            continue
        colour = material.palette.colour(row["family"])
        if f"{predictor}_low" in row:
            ax.plot([row[f"{predictor}_low"], row[f"{predictor}_high"]], [y, y], color=colour, lw=0.7, alpha=0.7)
        ax.plot([x, x], [row[f"{gain}_low"], row[f"{gain}_high"]], color=colour, lw=0.7, alpha=0.7)
        hollow = row["family"] in CONTROLS
        ax.plot(x, y, marker(row["family"]), color=colour, mfc="white" if hollow else colour, ms=4, zorder=3)
        write_number(ax, numbers.get(row["condition"], ""), x, y, colour)
    zero_lines(ax)


def _correlation(validation: pd.DataFrame, predictor: str, benefit: str) -> str:
    if validation.empty:
        return ""
    rows = validation[
        (validation["scope"] == "data") & (validation["predictor"] == predictor) & (validation["benefit"] == benefit)
    ]
    if rows.empty or not np.isfinite(rows["correlation"].iloc[0]):
        return "rank correlation: too few kinds"
    row = rows.iloc[0]
    numbers = interval(row["correlation"], row["low"], row["high"], 2)
    return f"rank corr. {numbers}\np {probability(row['p'])}, n = {int(row['n'])}"


def gains(material: Material, model: str) -> Table:
    """Equivalents and gains of every condition. The ratio of gains stands in the table alone: its divisor passes through 0."""
    table = material.table("metric", model)
    if table.empty:
        return Table([], [])
    kernels = [name.removeprefix("diversity_gain_") for name in table if name.startswith("diversity_gain_")]
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
        cells.append(_interval(row, "length_along_dropout", 1))
        for name in kernels:
            cells.append(_interval(row, f"diversity_gain_{name}", 2))
        rows.append(cells)
    head = ["condition", "runs"]
    for family in families:
        head += [f"{plain(family)} equivalent", f"left unexplained by {plain(family)}"]
    head.append("length along dropout")
    for name in kernels:
        head.append(f"diversity gain, {kernel(name)}")
    return Table(head, rows)


def _interval(row: dict, name: str, digits: int) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)


def validation(material: Material, model: str) -> Table:
    """Rank correlation of every predictor with every benefit, with its corrected p."""
    table = material.table("validation", model)
    if table.empty:
        return Table([], [])
    table = table[table["scope"] == "data"]
    benefits = list(dict.fromkeys(table["benefit"]))
    rows = []
    for predictor, group in table.groupby("predictor", sort=False):
        known = group.drop_duplicates("benefit").set_index("benefit")
        cells = [_with_p(known.loc[name]) for name in benefits]
        rows.append([_predictor(str(predictor)), *cells, str(int(group["n"].max()))])
    return Table(["predictor", *map(_benefit, benefits), "kinds"], rows)


def prediction(material: Material, model: str) -> str:
    """Whether the metric predicts a benefit, and what predicts best, over kinds of other data."""
    table = material.table("validation", model)
    if table.empty:
        return ""
    table = table[table["scope"] == "data"]
    known = table[table["p"].notna()]
    if known.empty:
        kinds = table["n"].max()
        return f"With {counted([kinds], 'kind')} of data it cannot be said." if kinds else "No benefit was measured."
    clear = known["p"] < material.level
    own = known["predictor"] == "length_along_dropout"
    seen, unseen = ([_correlated(row) for _, row in known[own & side].iterrows()] for side in (clear, ~clear))
    parts = [f"can be told from 0 for {listing(seen)}"] * bool(seen)
    parts += [f"cannot {'' if seen else 'be told from 0 '}for {listing(unseen)}"] * bool(unseen)
    text = (
        f"Over {counted([known['n'].max()], 'kind')} of data, the rank correlation of the length along dropout in one half of "
        f"the runs with a benefit in the other, corrected for the predictors tried, {' and '.join(parts) or 'is not known'}. "
    )
    if not clear.any():
        return f"{text}No predictor has a correlation that can be told from 0 ({len(known)} were tried)."
    best = known.loc[known["correlation"][clear].abs().idxmax()]
    return (
        f"{text}Of {len(known)} correlations that were tried, the largest that passes the correction is that between "
        f"{_predictor(best['predictor'])} and {_correlated(best)}."
    )


def _with_p(row: pd.Series) -> str:
    numbers = interval(*row[["correlation", "low", "high"]].astype(float), 2)
    return numbers if np.isnan(row["p"]) else f"{numbers}, p {probability(row['p'])}"


def _correlated(row: pd.Series) -> str:
    """A benefit with its rank correlation."""
    numbers = interval(*row[["correlation", "low", "high"]].astype(float), 2)
    return f"{_benefit(row['benefit'])} ({numbers})"


def _benefit(name: str) -> str:
    return BENEFITS[name].replace("\n", " ")


def _predictor(name: str) -> str:
    weighted = "weighted Vendi score"
    starts = {"diversity_gain_": "diversity gain", "efficiency_": "efficiency"}
    starts |= {"wvs_by_class_": f"{weighted} by class", "wvs_": f"{weighted} of the study"}
    for start, text in starts.items():
        if name.startswith(start):
            return f"{text}, {kernel(name.removeprefix(start))}"
    return {"mean_alpha_shift": "shift of mean alpha"}.get(name, plain(name))


def facts(material: Material) -> dict[str, object]:
    by_model = {
        "gains": gains, "validation": validation, "prediction": prediction, "related": related, "not_diverse": not_diverse,
    }  # fmt: skip
    return {name: {model: made(material, model) for model in material.models} for name, made in by_model.items()}


FIGURES = (
    Figure(
        "diversity_shift",
        "Diversity against shift",
        "shift along dropout, along weight decay and its length against the gain in diversity, by kernel",
        diversity_shift,
    ),
    Figure(
        "metric",
        "Metric against benefit",
        "gains in accuracy and calibration against the metric, diversity alone and mean alpha alone",
        metric,
    ),
)
SECTION = Section("metric", "The metric", FIGURES, facts)
