"""The metric of diversity, and whether it predicts what a technique is good for."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from diversity_spectra.report.marks import NUMBERS, number_key, numbered, write_number
from diversity_spectra.report.material import CONTROLS, Material
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import WIDTH, Drawing, canvas, family_legend, marker, zero_lines
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import BENEFITS, NOTHING, counted, interval, kernel, listing, plain
from diversity_spectra.report.words import condition as told


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
        row[0].set_ylabel(BENEFITS[benefit])
    for ax, label in zip(axes[-1], predictors.values(), strict=True):
        ax.set_xlabel(label)
    kinds = number_key(conditions, numbers)
    family_legend(figure, material.palette, material.families(model), baseline=False, numbers=kinds)
    scope = validation[validation["scope"] == "data"] if len(validation) else validation
    count = f"{int(scope['n'].max())} conditions with other data than the baseline" if len(scope) else "conditions"
    caption = (
        f"Does the metric predict the benefit? Each mark is a condition with the {material.confidence} intervals of "
        "both numbers; benefits are gains over the baseline. Above each panel: Spearman's rank correlation with its "
        f"interval, over the {count} (filled marks; hollow: regularisers{NUMBERS if numbers else ''}). A predictor "
        "explains where its interval excludes 0; compare the metric (left) with diversity alone and with mean alpha alone."
    )
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
        return "rank correlation: too few conditions"
    row = rows.iloc[0]
    return f"rank corr. {interval(row['correlation'], row['low'], row['high'], 2)}, n = {int(row['n'])}"


def gains(material: Material, model: str) -> Table:
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
        cells.append(_interval(row, "length_along_dropout", 1))
        for name in kernels:
            cells += [_interval(row, f"diversity_gain_{name}", 2), _interval(row, f"efficiency_{name}", 1)]
        rows.append(cells)
    head = ["condition", "runs"]
    for family in families:
        head += [f"{plain(family)} equivalent", f"left unexplained by {plain(family)}"]
    head.append("length along dropout")
    for name in kernels:
        head += [f"diversity gain, {kernel(name)}", f"efficiency, {kernel(name)}"]
    return Table(head, rows)


def _interval(row: dict, name: str, digits: int) -> str:
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)


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
    own = known["predictor"] == "length_along_dropout"
    seen, unseen = ([_correlated(row) for _, row in known[own & side].iterrows()] for side in (clear, ~clear))
    parts = [f"excludes 0 for {listing(seen)}"] * bool(seen) + [f"contains 0 for {listing(unseen)}"] * bool(unseen)
    text = (
        f"Over {counted([known['n'].max()], 'condition')} with other data than the baseline, the interval of the "
        f"length along dropout's rank correlation {' and '.join(parts) or 'is not known'}. "
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


def _predictor(name: str) -> str:
    for start, text in (("diversity_gain_", "diversity gain"), ("efficiency_", "efficiency")):
        if name.startswith(start):
            return f"{text}, {kernel(name.removeprefix(start))}"
    return {"mean_alpha_shift": "shift of mean alpha"}.get(name, plain(name))


def facts(material: Material) -> dict[str, object]:
    by_model = {"gains": gains, "validation": validation, "prediction": prediction}
    return {name: {model: made(material, model) for model in material.models} for name, made in by_model.items()}


FIGURES = (
    Figure(
        "metric",
        "Metric against benefit",
        "gains in accuracy and calibration against the metric, diversity alone and mean alpha alone",
        metric,
    ),
)
SECTION = Section("metric", "The metric", FIGURES, facts)
