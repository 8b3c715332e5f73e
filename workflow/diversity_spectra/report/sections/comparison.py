"""Is it the same thing? Directions of the shifts, and changes of one measure against another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from diversity_spectra.conditions import FAMILIES
from diversity_spectra.report.marks import NUMBERS, number_key, numbered, write_number
from diversity_spectra.report.material import CONTROLS, SCALES, Material, run_counts, summarise
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import (
    DENSE,
    FAINT,
    INK,
    VERDICTS,
    WIDTH,
    Drawing,
    canvas,
    family_legend,
    marker,
    paint_ticks,
    signed_ticks,
    zero_lines,
)
from diversity_spectra.report.words import MATRICES, MINUS, counted, fixed, listing, plain, tick
from diversity_spectra.report.words import measure as measure_name

PAIRS = (("stable_rank", "alpha_hill"), ("entropy", "alpha_hill"), ("stable_rank", "entropy"))
CROWDED = 30  # conditions beyond which the strongest of each kind stand for it
FAR = 15.0  # noise units beyond which axes are compressed, so that one strong condition does not hide the others


def alignment(material: Material, model: str) -> Drawing:
    """Left: cosine with each control's direction, with intervals. Right: cosine between all conditions."""
    table = material.table("alignment", model)
    if table.empty:
        return Drawing("No alignment could be computed: it takes shifts of at least two conditions.")
    if not np.isfinite(table["cosine"]).any():
        return Drawing(
            "No alignment is shown: no two shifts are longer than their noise, and only those have a direction."
        )
    conditions = material.conditions(model)
    conditions = conditions[conditions["condition"].isin(table["condition"])]
    names, families = list(conditions["condition"]), list(conditions["family"])
    size = 0.21 * len(names)
    figure, axes = canvas(
        max(WIDTH, size + 5.2), max(2.6, size + 1.9), 1, 2, sharey=True, width_ratios=[2.2, max(size, 1.8)]
    )
    left, right = axes.flat
    controls = [name for name in CONTROLS if ((table["target_kind"] == "family") & (table["target"] == name)).any()]
    for offset, control in zip((-0.17, 0.17), controls, strict=False):
        rows = table[(table["target_kind"] == "family") & (table["target"] == control)].set_index("condition")
        colour = material.palette.colour(control)
        for place, name in enumerate(names):
            if name in rows.index and np.isfinite(rows["cosine"][name]):
                at = place + 0.5 + offset
                left.plot(rows.loc[name, ["low", "high"]], [at, at], color=colour, lw=1)
                left.plot(rows["cosine"][name], at, marker(control), color=colour, ms=3.5)
    zero_lines(left, y=False)
    left.set(xlim=(-1.08, 1.08), title="cosine with the direction of ...")
    handles = [
        Line2D([], [], color=material.palette.colour(name), marker=marker(name), label=plain(name)) for name in controls
    ]
    left.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=3)
    left.grid(axis="y", color=FAINT, lw=0.5)
    pairs = table[table["target_kind"] == "condition"].drop_duplicates(["condition", "target"])
    wide = pairs.pivot_table(index="condition", columns="target", values="cosine").reindex(index=names, columns=names)
    right.set_facecolor("#ececec")
    few = len(names) <= 12
    dense = len(names) ** 2 > DENSE
    sns.heatmap(
        wide, ax=right, cmap="vlag", vmin=-1, vmax=1, square=False, annot=wide.map(fixed, digits=2) if few else False, fmt="", annot_kws={"size": 6},
        linewidths=0 if dense else 0.4, rasterized=dense, cbar_kws={"label": "cosine of shifts", "shrink": 0.7, "pad": 0.02},
    )  # fmt: skip
    if not few:
        clear = pairs.assign(clear=(pairs["low"] > 0) | (pairs["high"] < 0))
        clear = clear.pivot_table(index="condition", columns="target", values="clear").reindex(
            index=names, columns=names
        )
        place_y, place_x = np.nonzero(clear.to_numpy() == 1)
        right.scatter(place_x + 0.5, place_y + 0.5, s=1.5 if dense else 3, color=INK, linewidths=0, rasterized=dense)
    right.set(title="cosine between conditions", xlabel="", ylabel="")
    right.set_xticks(np.arange(len(names)) + 0.5, [tick(name, broken=True) for name in names], rotation=90)
    left.set_yticks(np.arange(len(names)) + 0.5, list(map(tick, names)), rotation=0)
    for ax, axis in ((left, left.yaxis), (right, right.xaxis)):
        ax.tick_params(length=0)
        paint_ticks(axis, families, material.palette)
    right.tick_params(axis="y", left=False, labelleft=False)
    left.set_ylim(len(names), 0)
    caption = (
        f"Do two techniques move the spectra in the same direction? 1: the same, 0: unrelated, {MINUS}1: opposite; "
        "cross-fitted, so that shared noise does not count as agreement. Left: each condition against "
        f"{listing(list(map(plain, controls))) or 'a regulariser, of which none was run'}, with {material.confidence} intervals "
        "(a family's own member is compared with the rest of its family; no mark: not identifiable). Right: all pairs; "
        f"{'' if few else 'dots: the interval of the cosine excludes 0; '}grey: a shift no longer than its noise, or the condition "
        f"itself. n = {counted(list(table['n']))} a condition, {int(table['n_baseline'].max())} "
        "of the baseline."
    )
    return Drawing(caption, figure)


def quadrants(material: Material, model: str) -> Drawing:
    """Change of one measure against change of another, per run and per condition."""
    runs, matrix = material.measures(model), material.matrix(model)
    conditions = material.conditions(model)
    pairs = [pair for pair in PAIRS if runs[list(pair)].notna().all(axis=1).any()]
    changes = _changes(runs, conditions, sorted({name for pair in pairs for name in pair}))
    if not pairs or changes is None or len(conditions) < 2:
        return Drawing("No change can be shown: that takes a baseline with at least two runs and another condition.")
    figure, axes = canvas(WIDTH, 3.1, 1, len(pairs))
    numbers = numbered(conditions)
    for ax, (across, up) in zip(axes.flat, pairs, strict=True):
        x, y = (summarise(changes, name, material.level) for name in (across, up))
        for _, group in conditions.groupby(["family", "kind"], sort=False, dropna=False):
            _trail(ax, group, changes, (across, up), (x, y), material, numbers)
        ax.set(xlabel=f"change of {measure_name(across, matrix)}", ylabel=f"change of {measure_name(up, matrix)}")
        zero_lines(ax)
        ax.add_patch(Rectangle((-2, -2), 4, 4, color="#ececec", lw=0, zorder=-1))
        for side, name, summary in (("x", across, x), ("y", up, y)):
            if summary["mean"].abs().max() > FAR or changes[name].abs().max() > 2 * FAR:
                getattr(ax, f"set_{side}scale")("asinh", linear_width=3.0)
                signed_ticks(getattr(ax, f"{side}axis"))
    family_legend(figure, material.palette, material.families(model), numbers=number_key(conditions, numbers))
    counts = run_counts(conditions["condition"], runs.dropna(subset=[*set().union(*pairs)], how="all"))
    caption = (
        f"Change of one measure against change of another, mean over layers, for {MATRICES[matrix]}; from the baseline's "
        f"mean, in units of the run-to-run standard deviation. Small dots: runs (n = {counted(counts)} a condition); "
        f"marks: means with {material.confidence} intervals, larger where a technique is stronger; lines lead from "
        f"the baseline through rising strengths, but for factors of steps and rate{NUMBERS if numbers else ''}. Techniques in the same "
        "quadrant change the spectrum the same way; a single run within the grey square (±2) cannot be told from noise. "
        f"{f'Of so many conditions ({len(conditions)}) the strongest of each kind has a mark, the others are dots. ' if len(conditions) > CROWDED else ''}"
        f"Axes are compressed where shifts exceed {FAR:g}."
    )
    return Drawing(caption, figure)


def _changes(runs: pd.DataFrame, conditions: pd.DataFrame, names: list[str]) -> pd.DataFrame | None:
    """Measures of every run minus the baseline's mean, over the baseline's standard deviation; ranks as logarithms."""
    changes = runs[["condition", "seed"]].copy()
    base = runs["condition"].isin(conditions.loc[conditions["family"] == "baseline", "condition"])
    if base.sum() < 2:
        return None
    for name in names:
        values = np.log(runs[name]) if name in SCALES else runs[name]
        spread = values[base].std()
        changes[name] = (values - values[base].mean()) / spread if spread > 0 else np.nan
    return changes


def _trail(
    ax: Axes, group: pd.DataFrame, changes: pd.DataFrame, names: tuple[str, str], summaries: tuple, material: Material,
    numbers: dict[str, str],
) -> None:  # fmt: skip
    """Runs, means and path of the conditions of one family and kind, in order of strength; its number at the end."""
    x, y = summaries
    family = group["family"].iloc[0]
    colour = material.palette.colour(family)
    known = [name for name in group["condition"] if name in x.index and name in y.index]
    crowded = len(x) > CROWDED
    own = changes[changes["condition"].isin(() if crowded else known)]
    ax.plot(
        own[names[0]], own[names[1]], ".", color=colour, alpha=0.3, ms=3, mew=0, zorder=1, rasterized=len(own) > 300
    )
    if group["strength"].notna().all() and FAMILIES[family].role not in ("baseline", "progress"):
        path = np.array([(0.0, 0.0), *((x["mean"][name], y["mean"][name]) for name in known)])
        ax.plot(*path.T, color=colour, lw=0.8, alpha=0.8, zorder=2)
    sizes = np.linspace(3.5, 6, len(known)) if len(known) > 1 else [4.5]
    for name, size in zip(known, sizes, strict=False):
        across, up = x.loc[name], y.loc[name]
        if crowded and name != known[-1]:
            ax.plot(across["mean"], up["mean"], ".", color=colour, ms=2.5, zorder=3)
            continue
        ax.plot([across["low"], across["high"]], [up["mean"]] * 2, color=colour, lw=0.8, zorder=3)
        ax.plot([across["mean"]] * 2, [up["low"], up["high"]], color=colour, lw=0.8, zorder=3)
        ax.plot(across["mean"], up["mean"], marker(family), color=colour, ms=size, mec="white", mew=0.4, zorder=4)
        if name == known[-1] or numbers.get(name) != numbers.get(known[-1]):
            write_number(ax, numbers.get(name, ""), across["mean"], up["mean"], colour)


CLAIMS = {"a": "(a) partial cosine", "b": "(b) difference of cosines", "e": "(e) share beyond\noptimisation"}


def robustness(material: Material, model: str) -> Drawing:
    """Choices down, grouped by kind; across, the claims about spectra: effect with interval, in the verdict's colour."""
    table, judged = material.table("robustness", model), material.table("claims", model)
    asked = judged["claim"][judged["asked"].astype(bool)].tolist() if len(judged) else []
    shown = {letter: title for letter, title in CLAIMS.items() if letter in asked}
    if table.empty or not np.isfinite(table["effect"][table["claim"].isin(shown)]).any():
        return Drawing(
            "No claim about the spectra has an effect here, so there is nothing that other choices could change."
        )
    places = table.drop_duplicates(["kind", "choice"])[["kind", "choice"]].reset_index(drop=True)
    figure, axes = canvas(WIDTH, 1.1 + 0.135 * len(places), 1, len(shown), sharey=True)
    starts = np.flatnonzero(places["kind"] != places["kind"].shift())
    for ax, (letter, title) in zip(axes.flat, shown.items(), strict=True):
        rows = table[table["claim"] == letter].set_index(["kind", "choice"])
        for at, place in enumerate(places.itertuples(index=False)):
            if tuple(place) not in rows.index:
                continue
            row = rows.loc[tuple(place)]
            _, ink, shape = VERDICTS[row["verdict"]]
            if not np.isfinite(row["effect"]):
                ax.text(0.5, at, "nothing to judge", transform=ax.get_yaxis_transform(), fontsize=6, color=ink,
                        ha="center", va="center")  # fmt: skip
                continue
            ax.plot([row["low"], row["high"]], [at, at], color=ink, lw=1)
            ax.plot(row["effect"], at, shape, color=ink, ms=3.2, mfc=ink if row["agrees"] else "white")
        for start in starts[1:]:
            ax.axhline(start - 0.5, color=FAINT, lw=0.6)
        zero_lines(ax, y=False)
        ax.set_title(title)
    labels = [
        f"{plain(kind)}: {measure_name(choice) if 'measure' in kind else tick(choice)}"
        if kind
        else "the analysis as it is"
        for kind, choice in places.itertuples(index=False)
    ]
    axes[0, 0].set_yticks(range(len(places)), labels, fontsize=6)
    axes[0, 0].set_ylim(len(places) - 0.5, -0.5)
    handles = [
        Line2D([], [], color=ink, marker=shape, lw=1, ms=3.2, label=name)
        for name, (_, ink, shape) in VERDICTS.items()
        if name in set(table["verdict"])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    caption = (
        f"Would other choices of analysis have led to other verdicts? One choice at a time is made otherwise (top: none), n = "
        f"{len(places) - 1} choices; "
        f"effect and interval (at least {material.confidence}) of each claim about the spectra, in the colour of the verdict, the mark "
        "filled where it is the verdict of the top row. Of few measures little is left when two directions are projected out."
    )
    return Drawing(caption, figure)


FIGURES = (
    Figure(
        "alignment",
        "Alignment",
        "cosine of every condition with the directions of dropout and weight decay, and with every other condition",
        alignment,
    ),
    Figure(
        "quadrants",
        "Quadrants",
        "change of one measure against change of another, in units of the noise between runs",
        quadrants,
    ),
    Figure(
        "robustness",
        "Other choices",
        "the claims about spectra, judged anew with one choice of analysis made otherwise at a time",
        robustness,
    ),
)
SECTION = Section("comparison", "Comparison", FIGURES)
