"""Figures of runs: accuracy and calibration, measures against strength, the amount of synthetic data."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from diversity_spectra.report.material import CONTROLS, MEASURES, SCALES, Material, run_counts, summarise
from diversity_spectra.report.style import FAINT, INK, WIDTH, Drawing, canvas, marker, paint_ticks
from diversity_spectra.report.words import MATRICES, SHIFTS, counted, kernel, listing, plain
from diversity_spectra.report.words import condition as told
from diversity_spectra.report.words import measure as measure_name

SCORES = {"accuracy": "accuracy", "ece": "calibr. error"}


def accuracy(material: Material, model: str) -> Drawing:
    """Conditions down, scores across: a small dot per run, the mean with its interval."""
    runs = material.evaluation(model)
    conditions = material.conditions(model)
    columns = [f"{score}|{shift}" for score in SCORES for shift in SHIFTS if f"{score}|{shift}" in runs]
    if not columns:
        return Drawing("No accuracy was measured for this model.")
    names, families = list(conditions["condition"]), list(conditions["family"])
    figure, axes = canvas(WIDTH, 1.3 + 0.19 * len(names), 1, len(columns), sharey=True)
    for ax, column in zip(axes.flat, columns, strict=True):
        score, shift = column.split("|")
        summary = summarise(runs, column, material.level)
        if "baseline" in families and names[families.index("baseline")] in summary.index:
            _band(ax, summary.loc[names[families.index("baseline")]], vertical=True)
        _marks(ax, conditions, runs, column, summary, material, across=True)
        ax.set_title(f"{SCORES[score]}\n{SHIFTS[shift]}")
        ax.grid(axis="y", color=FAINT, lw=0.5)
        # Both are shares; an interval from two or three runs may reach beyond what is possible.
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -0.02), min(high, 1.02))
        ax.locator_params(axis="x", nbins=3)
        ax.tick_params(axis="x", labelrotation=45)
    axes[0, 0].set_yticks(range(len(names)), [told(name) for name in names])
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    paint_ticks(axes[0, 0].yaxis, families, material.palette)
    counts = run_counts(names, runs)
    sets = material.table("evaluation", model).groupby("shift")["set"].unique()
    told_sets = "; ".join(f"{SHIFTS[shift]}: {', '.join(sets[shift])}" for shift in SHIFTS if shift in sets)
    caption = (
        "Accuracy (higher is better) and expected calibration error (lower is better), in and out of distribution. "
        f"Small dots: runs (n = {counted(counts)} a condition); marks: mean with {material.confidence} interval, "
        "run-to-run variance pooled over conditions. The grey band is the baseline's interval: a condition clear of "
        f"it changed something. Sets: {told_sets}."
    )
    return Drawing(caption, figure)


def dose_response(material: Material, model: str) -> Drawing:
    """Measures down, families across; within a family its conditions from weak to strong."""
    runs, matrix = material.measures(model), material.matrix(model)
    conditions = material.conditions(model)
    families = material.families(model)
    shown = [name for name in MEASURES if runs[name].notna().any()]
    if not families or not shown:
        return Drawing("There is no condition beside the baseline, or no measure could be computed.")
    groups = [conditions[conditions["family"] == family] for family in families]
    sizes = [len(group) + 1 for group in groups]
    width = max(0.24 * sum(sizes) + 1.2, min(WIDTH, 0.6 * sum(sizes) + 1.8))
    figure, axes = canvas(width, 0.9 + 1.25 * len(shown), len(shown), len(groups), sharey="row", width_ratios=sizes)
    baseline = conditions.loc[conditions["family"] == "baseline", "condition"]
    for position, (row, name) in enumerate(zip(axes, shown, strict=True)):
        summary = summarise(runs, name, material.level)
        for ax, group, family in zip(row, groups, families, strict=True):
            if len(baseline) and baseline.iloc[0] in summary.index:
                _band(ax, summary.loc[baseline.iloc[0]], vertical=False)
            colour = material.palette.colour(family)
            for _, members in group.groupby("kind", sort=False, dropna=False):
                known = [condition for condition in members["condition"] if condition in summary.index]
                if members["strength"].notna().all() and len(known) > 1:
                    places = [list(group["condition"]).index(condition) for condition in known]
                    ax.plot(places, summary.loc[known, "mean"], color=colour, lw=1, zorder=2)
            _marks(ax, group, runs, name, summary, material)
            ax.set_xlim(-0.6, len(group) - 0.4)
            ax.set_xticks(range(len(group)), [])
            ax.grid(axis="y", color=FAINT, lw=0.5)
            if position == 0:
                ax.set_title(plain(family), color=colour, fontsize=8.5 if len(group) > 2 else 7)
            if position == len(shown) - 1:
                ax.set_xticks(range(len(group)), [_strength(row) for row in group.itertuples()], rotation=90)
        row[0].set_ylabel(measure_name(name, matrix))
    counts = run_counts(conditions["condition"], runs)
    caption = (
        f"Shape of the spectra of {MATRICES[matrix]} (mean over "
        f"layers{', geometric for ranks' if set(shown) & set(SCALES) else ''}) against the strength of each technique, "
        f"weakest left. Small dots: runs (n = {counted(counts)} a condition); marks: mean with {material.confidence} "
        "interval, variance pooled over conditions; lines join strengths of one kind. The grey band is the baseline. "
        "A technique that acts on the spectra leaves the band, and further at greater strength."
    )
    return Drawing(caption, figure)


def synthetic_amount(material: Material, model: str) -> Drawing:
    """Accuracy, diversity and spectra against synthetic images per real image."""
    conditions = material.conditions(model)
    synthetic = conditions[(conditions["family"] == "synthetic") & conditions["strength"].notna()]
    if synthetic.empty:
        return Drawing("This model has no synthetic conditions.")
    baseline = conditions[conditions["family"] == "baseline"]
    evaluation, measures = material.evaluation(model), material.measures(model)
    panels: list[tuple[str, pd.DataFrame]] = [
        (f"accuracy, {SHIFTS[shift]}", summarise(evaluation, f"accuracy|{shift}", material.level))
        for shift in SHIFTS
        if f"accuracy|{shift}" in evaluation
    ]
    panels += [(f"Vendi score, {kernel(name)}", table) for name, table in _vendi(material, conditions).items()]
    matrix = material.matrix(model)
    panels += [
        (measure_name(name, matrix), summarise(measures, name, material.level)) for name in ("alpha", "stable_rank")
    ]
    panels = [(title, summary) for title, summary in panels if not summary.empty]
    if not panels:
        return Drawing(
            "There are synthetic conditions, but nothing was measured that could be drawn against the amount."
        )
    columns = 4 if len(panels) > 6 else 3
    rows = -(-len(panels) // columns)
    figure, axes = canvas(WIDTH, 1.75 * rows + 0.5, rows, columns, sharex=True)
    colour = material.palette.colour("synthetic")
    kinds = list(dict.fromkeys(synthetic["kind"]))
    for ax, (title, summary) in zip(axes.flat, panels, strict=False):
        for kind in kinds:
            members = synthetic[synthetic["kind"] == kind]
            curve = pd.concat([baseline.assign(strength=0.0), members])
            curve = curve[curve["condition"].isin(summary.index)].set_index("condition").join(summary, how="left")
            added = kind != "replaced"
            style = {"ls": "-" if added else (0, (4, 2)), "mfc": colour if added else "white"}
            _curve(ax, curve["strength"], curve, color=colour, marker="D", label=kind or "added", **style)
        own = summary[summary.index.isin(baseline["condition"])]
        _curve(ax, np.zeros(len(own)), own, color=INK, marker="o", ls="", zorder=5, label="baseline")
        ax.set_title(title)
        ax.grid(axis="y", color=FAINT, lw=0.5)
        ax.margins(x=0.06)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    for ax in axes[-1] if rows == 1 else [*axes[-1], *axes[-2][len(panels) - (rows - 1) * columns :]]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel("synthetic images per real image (replaced: share of the real images that gives way)", fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3)
    chosen = [*baseline["condition"], *synthetic["condition"]]
    amounts = listing([f"{strength:g}" for strength in sorted(synthetic["strength"].unique())])
    single = " One amount only: a trend cannot be read off." if len(set(synthetic["strength"])) == 1 else ""
    caption = (
        f"What happens as synthetic images are added (amounts {amounts}) at the same number of training steps: "
        f"accuracy, diversity of the training set, spectra of {MATRICES[matrix]}. "
        f"Marks: mean with {material.confidence} interval (n = {counted(run_counts(chosen, evaluation))} a condition; Vendi "
        f"scores: over subsamples of the set). Look for the amount where a curve turns: more than "
        f"that no longer helps.{single}"
    )
    return Drawing(caption, figure)


def _vendi(material: Material, conditions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By kernel: Vendi score of order 1 of each condition's training set, as `summarise` gives it."""
    table = material.table("diversity")
    if table.empty:
        return {}
    table = table[(table["order"].astype(str) == "1") & (table["label"] == "mean")]
    result = {}
    for name, rows in table.groupby("kernel", sort=False):
        scores = rows.drop_duplicates("training_set").set_index("training_set").reindex(conditions["training_set"])
        scores = scores[["score", "low", "high"]].rename(columns={"score": "mean"})
        result[str(name)] = scores.set_index(conditions["condition"]).dropna(subset="mean")
    return result


def _curve(ax: Axes, x: np.ndarray, summary: pd.DataFrame, **style: object) -> None:
    error = [summary["mean"] - summary["low"], summary["high"] - summary["mean"]]
    ax.errorbar(x, summary["mean"], error, ms=4, elinewidth=1, **style)


def _band(ax: Axes, row: pd.Series, vertical: bool) -> None:
    """The baseline's mean and interval across a whole panel."""
    line, span = (ax.axvline, ax.axvspan) if vertical else (ax.axhline, ax.axhspan)
    line(row["mean"], color=INK, lw=0.6, zorder=1)
    if np.isfinite(row["low"]):
        span(row["low"], row["high"], color="#e8e8e8", lw=0, zorder=0)


def _marks(
    ax: Axes, conditions: pd.DataFrame, runs: pd.DataFrame, column: str, summary: pd.DataFrame, material: Material,
    across: bool = False,
) -> None:  # fmt: skip
    """Conditions one beside the other: runs as faint dots, their mean as the family's mark with its interval.

    across: values run along x and conditions down, else the other way round.
    """
    places = {name: place for place, name in enumerate(conditions["condition"]) if name in summary.index}
    for family, group in conditions.groupby("family", sort=False):
        names = [name for name in group["condition"] if name in places]
        colour, means = material.palette.colour(str(family)), summary.loc[names]
        at = np.array([places[name] for name in names])
        own = runs[runs["condition"].isin(names)]
        dots = {
            "ls": "",
            "color": colour,
            "marker": ".",
            "alpha": 0.45,
            "ms": 4,
            "mew": 0,
            "rasterized": len(own) > 1000,
        }
        mark = {"ls": "", "color": colour, "marker": marker(str(family)), "ms": 4.5}
        where = own["condition"].map(places)
        ax.plot(*((own[column], where) if across else (where, own[column])), zorder=2, **dots)
        ends = ax.hlines if across else ax.vlines
        ends(at, means["low"], means["high"], color=colour, lw=1.4, zorder=3)
        ax.plot(*((means["mean"], at) if across else (at, means["mean"])), zorder=4, **mark)


def _strength(row) -> str:
    """Tick of one condition: its strength where the panel's title says the rest."""
    if row.family in CONTROLS and np.isfinite(row.strength):
        return f"{row.strength:g}"
    return told(row.condition, broken=True).removeprefix("synthetic ")
