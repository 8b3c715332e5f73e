"""Accuracy and calibration, in and out of distribution, and against the amount of synthetic data."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from diversity_spectra.compare.benefits import by_run
from diversity_spectra.compare.metric import of_sets
from diversity_spectra.report.marks import baseline_band, marks_told, run_marks
from diversity_spectra.report.material import MEASURES, Material, run_counts, summarise
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import FAINT, INK, WIDTH, Drawing, canvas, paint_ticks
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import MATRICES, NOTHING, SHIFTS, counted, interval, kernel, listing, tick
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
    baseline = conditions.loc[conditions["family"] == "baseline", "condition"].head(1)
    figure, axes = canvas(WIDTH, 1.3 + 0.19 * len(names), 1, len(columns), sharey=True)
    for ax, column in zip(axes.flat, columns, strict=True):
        score, shift = column.split("|")
        summary = summarise(runs, column, material.level)
        if baseline.isin(summary.index).any():
            baseline_band(ax, summary.loc[baseline.iloc[0]], vertical=True)
        run_marks(ax, conditions, runs, column, summary, material, across=True)
        ax.set_title(f"{SCORES[score]}\n{SHIFTS[shift]}")
        ax.grid(axis="y", color=FAINT, lw=0.5)
        # Both are shares; an interval from two or three runs may reach beyond what is possible.
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -0.02), min(high, 1.02))
        ax.locator_params(axis="x", nbins=3)
        ax.tick_params(axis="x", labelrotation=45)
    axes[0, 0].set_yticks(range(len(names)), list(map(tick, names)))
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    paint_ticks(axes[0, 0].yaxis, families, material.palette)
    counts = run_counts(names, runs)
    sets = material.table("evaluation", model).groupby("shift")["set"].unique()
    told_sets = "; ".join(f"{SHIFTS[shift]}: {', '.join(sets[shift])}" for shift in SHIFTS if shift in sets)
    compared = "The grey band is the baseline's interval: a condition clear of it changed something. "
    outside = any(not column.endswith("|none") for column in columns)
    caption = (
        "Accuracy (higher is better) and expected calibration error (lower is better)"
        f"{', in and out of distribution' if outside else ''}. "
        f"{marks_told(counts, material.confidence)}. "
        f"{compared if max(counts, default=0) > 1 and baseline.isin(runs['condition']).any() else ''}"
        f"Sets: {told_sets}."
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
    matrix = material.matrix(model)
    groups = {
        "accuracy": [
            (f"accuracy, {SHIFTS[shift]}", summarise(evaluation, f"accuracy|{shift}", material.level))
            for shift in SHIFTS
            if f"accuracy|{shift}" in evaluation
        ],
        "diversity of the training set": [
            (f"Vendi score, {kernel(name)}", table) for name, table in _vendi(material, model, conditions).items()
        ],
        f"spectra of {MATRICES[matrix]}": [
            (measure_name(name, matrix), summarise(measures, name, material.level)) for name in MEASURES[:2]
        ],
    }
    shown = {name: [panel for panel in own if not panel[1].empty] for name, own in groups.items()}
    panels = [panel for own in shown.values() for panel in own]
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
    amounts = "; ".join(
        f"{kind or 'added'} {listing([f'{strength:g}' for strength in members['strength']])}"
        for kind, members in synthetic.groupby("kind", sort=False)
    )
    scored = any(table["low"].notna().any() for _, table in shown["diversity of the training set"])
    single = " One amount only: a trend cannot be read off." if len(set(synthetic["strength"])) == 1 else ""
    caption = (
        f"What happens with more synthetic images ({amounts}) at the same number of training steps: "
        f"{listing([name for name, own in shown.items() if own])}. Marks: mean with {material.confidence} interval "
        f"(n = {counted(run_counts(chosen, material.table('runs', model)))} a condition"
        f"{'; Vendi scores: over subsamples of the set' if scored else ''}). Look for the amount where a curve turns: more than that no longer helps.{single}"
    )
    return Drawing(caption, figure)


def _vendi(material: Material, model: str, conditions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By kernel: Vendi score of order 1 of each condition's training set, as `summarise` gives it."""
    table = material.table("diversity", model)
    if table.empty:
        return {}
    table = of_sets(table[table["order"].astype(str) == "1"])
    result = {}
    for name, rows in table.groupby("kernel", sort=False):
        scores = rows.drop_duplicates("training_set").set_index("training_set").reindex(conditions["training_set"])
        scores = scores[["score", "low", "high"]].rename(columns={"score": "mean"})
        result[str(name)] = scores.set_index(conditions["condition"]).dropna(subset="mean")
    return result


def _curve(ax: Axes, x: np.ndarray, summary: pd.DataFrame, **style: object) -> None:
    error = [summary["mean"] - summary["low"], summary["high"] - summary["mean"]]
    ax.errorbar(x, summary["mean"], error, ms=4, elinewidth=1, **style)


def scores(material: Material, model: str) -> Table:
    """Accuracy on every set; likelihood and calibration in and out of distribution."""
    table = material.table("evaluation", model)
    # Synthetic images are judged by the networks too, but they are no test set: see `quality`.
    table = table[table["shift"].isin(SHIFTS)] if len(table) else table
    if table.empty:
        return Table([], [])
    ordered = table.sort_values("shift", key=lambda kinds: kinds.map(list(SHIFTS).index), kind="stable")
    sets = list(dict.fromkeys(ordered["set"]))
    runs = {f"accuracy, {name}": table[table["set"] == name].rename(columns={"accuracy": "value"}) for name in sets}
    for score, text in (("ece", "calibration error"), ("nll", "neg. log-likelihood"), ("brier", "Brier score")):
        by_kind = by_run(table, score) if score in table else pd.DataFrame(columns=["none", "ood"])
        for kind, where in (("none", "test"), ("ood", "mean out of distribution")):
            if by_kind[kind].notna().any():
                runs[f"{text}, {where}"] = by_kind[kind].rename("value").reset_index()
    summaries = {name: summarise(values, "value", material.level) for name, values in runs.items()}
    counts = table.drop_duplicates(["condition", "seed"])["condition"].value_counts()
    rows = []
    for condition in material.conditions(model)["condition"]:
        cells = [
            interval(*part.loc[condition, ["mean", "low", "high"]]) if condition in part.index else NOTHING
            for part in summaries.values()
        ]
        rows.append([told(condition), str(counts.get(condition, 0)), *cells])
    return Table(["condition", "runs", *runs], rows)


def facts(material: Material) -> dict[str, object]:
    return {"scores": {model: scores(material, model) for model in material.models}}


FIGURES = (
    Figure(
        "accuracy",
        "Accuracy and calibration",
        "accuracy and expected calibration error of every condition, in and out of distribution",
        accuracy,
    ),
    Figure(
        "synthetic_amount",
        "Amount of synthetic data",
        "accuracy, diversity and spectra against the number of synthetic images per real image",
        synthetic_amount,
    ),
)
SECTION = Section("evaluation", "Accuracy", FIGURES, facts)
