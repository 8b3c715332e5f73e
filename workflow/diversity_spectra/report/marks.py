"""Marks that several figures share: runs and means of conditions, the baseline, numbers of kinds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from diversity_spectra.report.material import CONTROLS, Material
from diversity_spectra.report.style import INK, marker, readable
from diversity_spectra.report.words import condition as told
from diversity_spectra.report.words import counted, plain, shortened

NUMBERS = "; numbers: kinds, as in the legend"


def baseline_band(ax: Axes, row: pd.Series, vertical: bool) -> None:
    """The baseline's mean and interval across a whole panel."""
    line, span = (ax.axvline, ax.axvspan) if vertical else (ax.axhline, ax.axhspan)
    line(row["mean"], color=INK, lw=0.6, zorder=1)
    if np.isfinite(row["low"]):
        span(row["low"], row["high"], color="#e8e8e8", lw=0, zorder=0)


def run_marks(
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


def marks_told(counts: list[int], confidence: str) -> str:
    """What `run_marks` has drawn, of so many runs of each condition."""
    if max(counts, default=0) < 2:
        return "Marks: single runs (n = 1 run a condition), of whose noise nothing is known"
    return (
        f"Small dots: runs (n = {counted(counts)} a condition); marks: mean with {confidence} interval, run-to-run variance "
        "pooled over conditions"
    )


def numbered(conditions: pd.DataFrame) -> dict[str, str]:
    """`number name` by condition, one for each kind of a family that has several: their marks look alike."""
    names = conditions["kind"].map(plain).where(conditions["kind"] != "", conditions["condition"].map(told))
    several = names.groupby(conditions["family"]).transform("nunique") > 1
    chosen = several & ~conditions["family"].isin(["baseline", *CONTROLS])
    numbers = (conditions["family"] + names)[chosen].factorize()[0] + 1
    return {
        condition: f"{number} {shortened(name)}"
        for condition, number, name in zip(conditions["condition"][chosen], numbers, names[chosen], strict=True)
    }


def number_key(conditions: pd.DataFrame, numbers: dict[str, str]) -> dict[str, str]:
    """The family of every numbered kind, for the legend."""
    families = conditions.set_index("condition")["family"]
    return {label: families[condition] for condition, label in numbers.items()}


def write_number(ax: Axes, label: str, x: float, y: float, colour: str) -> None:
    """The number of a kind beside its mark."""
    rim = [withStroke(linewidth=1.3, foreground="white")]  # readable on top of lines and other marks
    style = {"fontsize": 6, "color": readable(colour), "path_effects": rim, "zorder": 5}
    ax.annotate(label.split(" ")[0], (x, y), (2.5, 2.5), textcoords="offset points", **style)
