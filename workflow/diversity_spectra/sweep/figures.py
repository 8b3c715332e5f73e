"""Figures over all experiments: verdicts, claims, gains by family, and every condition of every network."""

from __future__ import annotations

import itertools
import textwrap

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from diversity_spectra.report.material import COMPARABLE, CONTROLS, in_order
from diversity_spectra.report.section import Figure
from diversity_spectra.report.sections import answer
from diversity_spectra.report.style import (
    FAINT,
    INK,
    MUTED,
    VERDICTS,
    WIDTH,
    Drawing,
    Palette,
    canvas,
    family_legend,
    marker,
    paint_ticks,
    signed_ticks,
    zero_lines,
)
from diversity_spectra.report.words import BENEFITS, MINUS, NOTHING, counted, plain, shortened, tick

SEEN = {"detected": VERDICTS["supported"], "not detected": VERDICTS["inconclusive"]}
SCORES = ("id_accuracy", "ood_accuracy", "calibration")
FAR = 0.2  # gain beyond which axes are compressed, so that one network that fails does not hide the others


def verdicts(tables: dict[str, pd.DataFrame], palette: Palette, confidence: str) -> Drawing:
    """Networks down; across, whether the controls were detected, then the claims."""
    claims, controls = tables["claims"], tables["controls"]
    if "claim" not in claims:
        return Drawing("No claim was judged in any experiment.")
    places = networks(tables)
    letters = sorted(claims["claim"].unique())
    heads = [f"{plain(family)} seen at all?" for family in CONTROLS]
    heads = [textwrap.fill(text, 15) for text in [*heads, *map(_short, letters)]]
    lines = max(text.count("\n") + 1 for text in heads)
    figure, axes = canvas(_width(places), 0.35 + 0.12 * lines + 0.27 * len(places), 1, 1)
    ax = axes[0, 0]
    for row, place in enumerate(places):
        own = _of(controls, place)
        for column, family in enumerate(CONTROLS):
            whole = own[(own["family"] == family) & (own["condition"] == "")] if len(own) else own
            _cell(ax, row, column, *_seen(whole))
        own = _of(claims, place).set_index("claim")
        judged = answer.verdicts(own).replace(answer.NOT_ASKED, NOTHING)
        for column, letter in enumerate(letters, start=len(CONTROLS)):
            verdict = judged.get(letter, NOTHING)
            _cell(ax, row, column, verdict, VERDICTS.get(verdict))
    ax.set(xlim=(0, len(heads)), ylim=(len(places), 0))
    ax.set_xticks(np.arange(len(heads)) + 0.5, heads, fontsize=6.2)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.set_yticks(np.arange(len(places)) + 0.5, list(map(_tick, places)))
    for side in ax.spines.values():
        side.set_visible(False)
    ax.axvline(len(CONTROLS), color=INK, lw=0.8)
    _rules(ax, places, offset=0.0)
    caption = (
        "One row per network of an experiment. Left of the line: could the experiment see the regulariser at all? A "
        "comparison with one that it could not see is inconclusive by necessity. Right: the verdict on each claim, from "
        "the runs of this row alone (a dash: not asked). Look for columns of one colour: an answer that does not depend on the network or "
        "the data."
    )
    return Drawing(caption, figure)


def _short(letter: str) -> str:
    """A claim in a few words."""
    return f"({letter}) {answer.WORDS[letter].short}"


def _seen(whole: pd.DataFrame) -> tuple[str, tuple | None]:
    if whole.empty:
        return NOTHING, None
    text = "detected" if whole["detected"].any() else "not detected"
    return text, SEEN[text]


def _cell(ax: Axes, row: int, column: int, text: str, look: tuple | None) -> None:
    background, ink, _ = look or ("white", MUTED, "")
    ax.add_patch(Rectangle((column + 0.03, row + 0.08), 0.94, 0.84, facecolor=background, lw=0))
    ax.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=6.8, color=ink)


def claims(tables: dict[str, pd.DataFrame], palette: Palette, confidence: str) -> Drawing:
    """A forest plot per claim: networks down, effect with interval across."""
    table = tables["claims"]
    if "claim" not in table or not np.isfinite(table["effect"]).any():
        return Drawing("No claim could be given an effect in any experiment.")
    places = networks(tables)
    letters = [letter for letter, rows in table.groupby("claim", sort=True) if np.isfinite(rows["effect"]).any()]
    titles = [textwrap.fill(_short(letter), 92 // len(letters)) for letter in letters]
    lines = max(text.count("\n") + 1 for text in titles)
    figure, axes = canvas(_width(places), 0.8 + 0.13 * lines + 0.2 * len(places), 1, len(letters), sharey=True)
    for ax, letter, title in zip(axes.flat, letters, titles, strict=True):
        for row, place in enumerate(places):
            own = _of(table[table["claim"] == letter], place)
            if own.empty or not np.isfinite(own["effect"].iloc[0]):
                ax.text(
                    0.03, row, "not measured", transform=ax.get_yaxis_transform(), va="center", fontsize=6, color=MUTED
                )
                continue
            effect, low, high = own[["effect", "low", "high"]].iloc[0]
            _, ink, shape = VERDICTS[own["verdict"].iloc[0]]
            ax.plot([low, high], [row, row], color=ink, lw=1.2)
            ax.plot(effect, row, shape, color=ink, ms=4.5, mfc="white" if shape == "D" else ink)
        zero_lines(ax, y=False)
        ax.set_title(title, fontsize=7, loc="left")
        ax.locator_params(axis="x", nbins=4)
        ax.tick_params(axis="x", labelrotation=45)
        ax.grid(axis="y", color=FAINT, lw=0.5)
        _rules(ax, places)
    axes[0, 0].set_yticks(range(len(places)), list(map(_tick, places)))
    axes[0, 0].set_ylim(len(places) - 0.5, -0.5)
    handles = [
        Line2D([], [], color=ink, marker=shape, ls="", mfc="white" if shape == "D" else ink, label=name)
        for name, (_, ink, shape) in VERDICTS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.3)
    known = table[np.isfinite(table["effect"])]
    caption = (
        f"Effect of every claim with its interval (at least {confidence}), n = {counted(list(known['n']))} each; what the effect is "
        "stands with the claim below, and its unit differs between panels. Look for rows on the same side of 0, and for "
        "intervals that exclude each other: there the answer depends on the network or the data."
    )
    return Drawing(caption, figure)


def gains(tables: dict[str, pd.DataFrame], palette: Palette, confidence: str) -> Drawing:
    """Networks down, within a network its families; across, the gain in each score."""
    table, metric = tables["gains"], tables["metric"]
    if "benefit" not in table:
        return Drawing("No accuracy was measured in any experiment.")
    known = table[np.isfinite(table["gain"])]
    scores = [name for name in SCORES if (known["benefit"] == name).any()]
    if not scores:
        return Drawing("No gain over the baseline was measured in any experiment.")
    places = networks(tables)
    families = [family for family in COMPARABLE if (known["family"] == family).any()]
    figure, axes = canvas(
        _width(places), 0.9 + max(0.3, 0.1 * len(families)) * len(places) * 1.15, 1, len(scores), sharey=True
    )
    step = 0.78 / max(len(families), 2)
    for ax, score in zip(axes.flat, scores, strict=True):
        for row, place in enumerate(places):
            own, each = _of(known[known["benefit"] == score], place), _of(metric, place)
            for number, family in enumerate(families):
                at = row + step * (number - (len(families) - 1) / 2)
                colour = palette.colour(family)
                if f"{score}_gain" in each:
                    dots = each.loc[each["family"] == family, f"{score}_gain"]
                    ax.plot(dots, [at] * len(dots), ".", color=colour, alpha=0.5, ms=4, mew=0, zorder=2)
                for mean in own[own["family"] == family].itertuples():
                    ax.plot([mean.low, mean.high], [at, at], color=colour, lw=1.2, zorder=3)
                    ax.plot(mean.gain, at, marker(family), color=colour, ms=4, zorder=4)
        zero_lines(ax, y=False)
        ax.set_title(BENEFITS[score])
        ax.locator_params(axis="x", nbins=4)
        if max(map(abs, ax.get_xlim())) > FAR:
            ax.set_xscale("asinh", linear_width=FAR / 4)
            signed_ticks(ax.xaxis, (0.05, 0.2, 0.8))
        ax.tick_params(axis="x", labelrotation=45)
        ax.tick_params(axis="y", length=0)
        _rules(ax, places, every=True)
    axes[0, 0].set_yticks(range(len(places)), list(map(_tick, places)))
    axes[0, 0].set_ylim(len(places) - 0.5, -0.5)
    family_legend(figure, palette, families, baseline=False)
    caption = (
        "What each family of conditions gains over the baseline of its own network (right of 0: better). Marks: mean "
        f"over the family's conditions with {confidence} interval (n = {counted(list(known['n']))} each, the baseline's "
        "included); dots: its single conditions. A mean over strengths tells whether a family helps as it was swept, "
        "not how much its best strength could. Look for a family that lies on the same side of 0 in every row. Axes are "
        f"compressed where gains exceed {FAR:g}."
    )
    return Drawing(caption, figure)


def conditions(tables: dict[str, pd.DataFrame], palette: Palette, confidence: str) -> Drawing:
    """Conditions down, networks across: the gain out of distribution, and the cosine with the dropout direction."""
    metric, alignment = tables["metric"], tables["alignment"]
    if "condition" not in metric:
        return Drawing("No condition could be compared with the baseline in any experiment.")
    places = networks(tables)
    panels = [panel for panel in (_gain_panel(metric), _cosine_panel(alignment)) if panel]
    if not panels:
        return Drawing("Neither a gain in accuracy nor an alignment with dropout is known in any experiment.")
    rows = in_order(tables["conditions"].drop_duplicates("condition"))
    rows = rows[rows["condition"].isin(metric["condition"])]
    names, families = list(rows["condition"]), list(rows["family"])
    panel = max(1.5, 0.42 * len(places) + 0.9)
    longest = max(len(_tick(place)) for place in places)
    figure, axes = canvas(
        max(WIDTH * 0.8, 1.9 + panel * len(panels)),
        0.7 + 0.07 * longest + 0.19 * len(names),
        1,
        len(panels),
        sharey=True,
    )
    few = len(places) <= 8
    for ax, (title, table, norm, text) in zip(axes.flat, panels, strict=True):
        value, low, high = (_wide(table, column, names, places) for column in ("value", "low", "high"))
        ax.set_facecolor("#ececec")
        sns.heatmap(
            value, ax=ax, cmap="vlag", norm=norm, annot=value.map(lambda x, text=text: _number(x, text)) if few else False,
            fmt="", annot_kws={"size": 6}, linewidths=0.4, cbar_kws={"shrink": 0.6, "pad": 0.03},
        )  # fmt: skip
        y, x = np.nonzero(((low > 0) | (high < 0)).to_numpy())
        ax.plot(x + 0.1, y + 0.22, ".", color=INK, ms=3, mew=0)
        if isinstance(norm, AsinhNorm):
            signed_ticks(ax.collections[0].colorbar.ax.yaxis, (1, 3, 10, 30))
        ax.set(title=title, xlabel="", ylabel="")
        ax.set_xticks(np.arange(len(places)) + 0.5, list(map(_tick, places)), rotation=90)
        ax.set_yticks(np.arange(len(names)) + 0.5, list(map(tick, names)), rotation=0)
        ax.tick_params(length=0)
    paint_ticks(axes[0, 0].yaxis, families, palette)
    for ax in axes.flat[1:]:
        ax.tick_params(axis="y", labelleft=False)
    caption = (
        f"Every condition of every network, side by side. Dots: the {confidence} interval excludes 0. Grey: not part of "
        "this experiment, or not known. Look for rows of one colour: a technique that does the same to every network and "
        "every data set. Gains in percentage points; their colours are compressed far from 0."
    )
    return Drawing(caption, figure)


def networks(tables: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """Pairs of experiment and model, in the order of the sweep."""
    return list(dict.fromkeys(tables["conditions"][["experiment", "model"]].itertuples(index=False, name=None)))


def label(place: tuple[str, str]) -> str:
    return " · ".join(place)


def _tick(place: tuple[str, str]) -> str:
    return label(tuple(map(shortened, place)))


def _width(places: list[tuple[str, str]]) -> float:
    """Inches of a figure with these names beside it: long ones take no room from the panels."""
    return WIDTH + 0.06 * max(0, max(len(_tick(place)) for place in places) - 38)


def _of(table: pd.DataFrame, place: tuple[str, str]) -> pd.DataFrame:
    """The rows of one network; none where the table has none at all."""
    if "model" not in table:
        return table.iloc[:0]
    return table[(table["experiment"] == place[0]) & (table["model"] == place[1])]


def _gain_panel(metric: pd.DataFrame) -> tuple[str, pd.DataFrame, Normalize, str] | None:
    """Title, table with columns value, low and high, scale of colours, and how numbers are written."""
    score = next((name for name in ("ood_accuracy", "id_accuracy") if metric[f"{name}_gain"].notna().any()), None)
    if score is None:
        return None
    points = {to: metric[f"{score}_gain{end}"] * 100 for to, end in (("value", ""), ("low", "_low"), ("high", "_high"))}
    table = metric[["experiment", "model", "condition"]].assign(**points)
    top = max(1.0, float(table["value"].abs().max()))
    return f"{BENEFITS[score]}, points", table, AsinhNorm(linear_width=2.0, vmin=-top, vmax=top), "{:+.1f}"


def _cosine_panel(alignment: pd.DataFrame) -> tuple[str, pd.DataFrame, Normalize, str] | None:
    if "target" not in alignment:
        return None
    own = alignment[(alignment["target_kind"] == "family") & (alignment["target"] == "dropout")]
    if own["cosine"].isna().all():
        return None
    return "cosine with the direction\nof dropout", own.rename(columns={"cosine": "value"}), Normalize(-1, 1), "{:+.2f}"


def _wide(table: pd.DataFrame, column: str, names: list[str], places: list[tuple[str, str]]) -> pd.DataFrame:
    """(conditions, networks), NaN where there is no such condition."""
    own = {label(place): _of(table, place).drop_duplicates("condition") for place in places}
    return pd.DataFrame({name: rows.set_index("condition")[column].reindex(names) for name, rows in own.items()})


def _number(value: float, text: str) -> str:
    return "" if np.isnan(value) else text.format(value).replace("-", MINUS)


def _rules(ax: Axes, places: list[tuple[str, str]], offset: float = -0.5, every: bool = False) -> None:
    """A line between experiments, or between all networks."""
    for row, (before, after) in enumerate(itertools.pairwise(places), start=1):
        if every or before[0] != after[0]:
            strong = before[0] != after[0]
            ax.axhline(row + offset, color=MUTED if strong else FAINT, lw=0.6 if strong else 0.5, zorder=0)


FIGURES = (
    Figure(
        "verdicts", "Verdicts", "by network, whether the regularisers could be seen, and the verdict on each claim",
        verdicts, per_model=False,
    ),
    Figure(
        "claims", "Claims", "a forest plot per claim: its effect with interval for every network of every experiment",
        claims, per_model=False,
    ),
    Figure(
        "gains", "Gains by family", "what each family gains over the baseline in accuracy and calibration", gains,
        per_model=False,
    ),
    Figure(
        "conditions", "Conditions",
        "every condition of every network: gain in accuracy, and cosine of its shift with the direction of dropout",
        conditions, per_model=False,
    ),
)  # fmt: skip
