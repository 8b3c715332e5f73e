"""The study's own analysis, and what it gives where nothing has any effect."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from diversity_spectra.compare.across import FEW, NORMS
from diversity_spectra.compare.layer_shifts import MEASURES
from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Drawing, Figure, Section
from diversity_spectra.report.style import FAINT, INK, WIDTH, canvas, family_legend, marker, zero_lines
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import MINUS, NOTHING, fixed, listing, number, plain, probability, shortened
from diversity_spectra.report.words import measure as measure_name

NAMED = 8  # layers that have room for their names below a panel
STATISTICS = {"cosine": "cosine", "pearson": "Pearson's r", "t": "|t|", "anova_f": "F"}


def shown(material: Material) -> list[str]:
    """Networks of the analysis, and groups of networks with the same layers."""
    table = material.table("layer_tests")
    found = set(table["model"]) if len(table) else set()
    return [model for model in material.models if model in found] + sorted(found - set(material.models))


def layer_shifts(material: Material, model: str) -> Drawing:
    """Per measure: mean over layers by family with its null (left), shifts over depth (right)."""
    shifts, tests = material.table("layer_shifts", model), material.table("layer_tests", model)
    measures = [
        name for name in MEASURES if len(shifts) and shifts.loc[shifts["measure"] == name, "shift"].notna().any()
    ]
    if not measures or tests.empty:
        return Drawing(
            "There is nothing to draw: that takes a baseline, a family to compare with it, and a layer measured in all runs."
        )
    families = list(dict.fromkeys(shifts["family"]))
    height = 0.7 + 1.15 * len(measures)
    figure, axes = canvas(WIDTH, height, len(measures), 3, gridspec_kw={"width_ratios": [1, 1, 2.2]})
    for place, (row, name) in enumerate(zip(axes, measures, strict=True)):
        own = shifts[shifts["measure"] == name]
        for ax, head in zip(row, (True, False), strict=False):
            means = tests[(tests["statistic"] == "mean") & (tests["measure"] == name) & (tests["head"] == head)]
            _bars(ax, means.set_index("families"), families, material)
        row[0].set_ylabel(measure_name(name))
        for family in families:
            part = own[own["family"] == family].reset_index(drop=True)
            look = {"color": material.palette.colour(family), "marker": marker(family)}
            row[2].scatter(part.index, part["shift"], s=7, linewidths=0, alpha=0.8, **look)
        inside = own.loc[~own["head"], "shift"].abs().max()
        if np.isfinite(inside) and inside > 0:
            row[2].set_ylim(-1.15 * inside, 1.15 * inside)
        for family in families:
            outside = own[own["head"] & (own["family"] == family) & (own["shift"].abs() > 1.15 * inside)]
            for far in outside.itertuples():
                row[2].annotate(
                    fixed(far.shift, 2, sign=True), (1, 0.97 - 0.17 * families.index(family)), xycoords="axes fraction",
                    ha="right", va="top", fontsize=6, color=material.palette.colour(family),
                )  # fmt: skip
        zero_lines(row[2], x=False)
        depth = list(dict.fromkeys(own["layer"]))
        row[2].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(depth) <= NAMED:
            row[2].set_xticks(range(len(depth)), depth if place == len(measures) - 1 else [])
    for ax, title in zip(axes[0], ("mean over layers", "the same without the head", "layer by layer"), strict=True):
        ax.set_title(title)
    axes[-1][2].set_xlabel("layers, from input to output")
    family_legend(figure, material.palette, families, baseline=False)
    return Drawing(
        "Shift of a family: change of a measure of W in training less that of the baseline, mean over the family's "
        f"conditions, as in the study. Grey: what {_most(material)} relabellings of the runs give, names meaning nothing. A bar that "
        "ends within its grey box can have come out of nothing. Numbers in the corner: the head's shift where it lies "
        "outside the panel.",
        figure,
    )


def _bars(ax: Axes, means: pd.DataFrame, families: list[str], material: Material) -> None:
    for place, family in enumerate(families):
        if family not in means.index:
            continue
        row = means.loc[family]
        ax.bar(place, row["null_high"] - row["null_low"], bottom=row["null_low"], width=0.9, color=FAINT, zorder=0)
        ax.bar(place, row["value"], width=0.5, color=material.palette.colour(family), zorder=2)
    ax.axhline(0, color=INK, lw=0.6, zorder=3)
    ax.set_xticks([])


def alignments(material: Material, model: str = "") -> Drawing:
    """Cosine and correlation of every pair, for each measure: the value as a mark on the range of its null."""
    tests = material.table("layer_tests")
    tests = tests[(tests["statistic"] == "cosine") & ~tests["head"].astype(bool)] if len(tests) else tests
    if tests.empty:
        return Drawing("No two families can be compared.")
    models, pairs = shown(material), list(dict.fromkeys(tests["families"]))
    measures = [name for name in MEASURES if (tests["measure"] == name).any()]
    height = 0.9 + max(0.16 * len(models), 0.55) * len(measures)
    figure, axes = canvas(WIDTH, height, len(measures), len(pairs), sharex=True, sharey=True)
    for row, name in zip(axes, measures, strict=True):
        for ax, pair in zip(row, pairs, strict=True):
            own = tests[(tests["measure"] == name) & (tests["families"] == pair)].set_index("model").reindex(models)
            for place, one in enumerate(own.itertuples()):
                ax.plot(
                    [one.null_low, one.null_high], [place, place], color=FAINT, lw=5, solid_capstyle="butt", zorder=0
                )
                outside = one.value < one.null_low or one.value > one.null_high
                ax.plot(one.value, place, "o", ms=4, color=INK, mfc=INK if outside else "white", zorder=2)
            ax.axvline(own["null_closed"].median(), color=INK, lw=0.7, ls=(0, (3, 2)), zorder=1)
            zero_lines(ax, y=False)
            ax.set(xlim=(-1.05, 1.05), ylim=(len(models) - 0.4, -0.6))
            ax.set_yticks(range(len(models)), [_short(model, material) for model in models], fontsize=6)
        row[0].set_ylabel(measure_name(name).replace(" ", "\n"))
    for ax, pair in zip(axes[0], pairs, strict=True):
        ax.set_title(_pair(pair).replace(" and ", "\nand "))
    figure.supxlabel("cosine over layers, without the head", fontsize=8)
    return Drawing(
        "Cosines of two families' shifts over layers (marks) on what they are where the names of conditions mean nothing: "
        f"grey, {_most(material)} relabellings; dashed, the value that one shared baseline gives to independent noise. A hollow mark can have come out "
        "of nothing.",
        figure,
    )


def _most(material: Material) -> str:
    """How many relabellings lie in a null's range, as `95 of 100`."""
    return f"{100 * (1 - material.level):g} of 100"


def _short(model: str, material: Material) -> str:
    """A network, or the mean of a group of them: all, or so many with the first one's name."""
    names = model.split(", ")
    if len(names) == 1:
        return shortened(model)
    return "mean of all" if {*names} == {*material.models} else f"mean of {len(names)}: {shortened(names[0])} …"


def _pair(families: str) -> str:
    return " and ".join(plain(name) for name in families.split(" "))


# ---------------------------------------------------------------- tables and sentences


def numbers(material: Material, model: str) -> Table:
    """Every statistic of the study beside its nulls."""
    table = material.table("layer_tests", model)
    table = table[table["statistic"].isin(STATISTICS)] if len(table) else table
    rows = []
    dealt = len(table) > 0 and bool((table["deals"].fillna(0) > 0).any())
    for one in table.to_dict("records"):
        null = f"{number(one['null_median'])} [{number(one['null_low'])}, {number(one['null_high'])}]"
        cells = [measure_name(one["measure"]), "with" if one["head"] else "without", _pair(one["families"])]
        cells += [STATISTICS[one["statistic"]], number(one["value"]), probability(one["p_layers"]), null]
        cells += [_share(one["null_significant"])]
        if dealt:
            cells += [number(one["dealt_median"]), _share(one["dealt_significant"])]
        rows.append([*cells, probability(one["p_relabelled"]), probability(one["p_floor"])])
    head = ["measure", "head", "families", "statistic", "value", "p, layers as replicates"]
    small = f"p < {material.level:g} in"
    head += [f"null: median [{material.confidence}]", f"null: {small}"]
    head += ["own baseline runs: median", f"own baseline runs: {small}"] if dealt else []
    return Table([*head, "p by relabelling", "floor of p"], rows, 4)


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else NOTHING


def recurring(material: Material) -> Table:
    """What recurs from one network to another, and with the strength of a family."""
    table = material.table("layer_tests")
    table = table[table["statistic"].isin(["cosine_across", "trend"])] if len(table) else table
    rows = []
    for one in table.to_dict("records"):
        what = "cosine, cross-fitted" if one["statistic"] == "cosine_across" else "trend with strength"
        families = _pair(one["families"]) if one["statistic"] == "cosine_across" else plain(one["families"])
        note = one["note"] if isinstance(one["note"], str) else ""
        signs = one["signs"].replace("-", MINUS) if isinstance(one["signs"], str) else ""
        cells = [one["model"], what, families, measure_name(one["measure"]), signs, note, number(one["value"])]
        rows.append([*cells, *(probability(one[name]) for name in ("p_relabelled", "p_holm", "p_floor"))])
    head = [
        "networks",
        "what",
        "families",
        "measure",
        "sign with each left out",
        "note",
        "value",
        "p",
        "p, Holm",
        "floor of p",
    ]
    return Table(head, rows, 6)


def verdict(material: Material) -> list[str]:
    """What can be read off at a glance."""
    table = material.table("layer_tests")
    table = table[table["model"].isin(material.models)] if len(table) else table
    if table.empty:
        return []
    sentences = []
    aligned = table[(table["statistic"] == "cosine") & ~table["head"].astype(bool) & table["value"].notna()]
    if len(aligned):
        beyond = aligned[aligned["p_relabelled"] < material.level]
        sentences.append(
            f"Of {len(aligned)} cosines between families (head left out), {len(aligned) - len(beyond)} are no larger than "
            f"what relabelled runs give in more than {100 * material.level:g} of 100 cases"
            + (f"; larger: {_listed(beyond)}." if len(beyond) else ".")
        )
    correlated = table[(table["statistic"] == "pearson") & ~table["head"].astype(bool) & table["p_layers"].notna()]
    if len(correlated):
        significant = correlated["p_layers"] < material.level
        usual = correlated["null_significant"].median()
        null = f"; with names that mean nothing it says so in {_share(usual)} of the cases (median over the pairs)"
        sentences.append(
            f"Pearson's test over layers says p < {material.level:g} for {int(significant.sum())} of {len(correlated)} pairs"
            f"{null if np.isfinite(usual) else ''}."
        )
    own = correlated["dealt_significant"].dropna()
    if len(own):
        sentences.append(
            "The baseline's own runs, dealt out as if they were families, were all trained in the same way; they give "
            f"p < {material.level:g} in {_share(own.median())} of the deals."
        )
    return sentences


def _listed(rows: pd.DataFrame, most: int = 6) -> str:
    told = [f"{measure_name(row.measure)} of {_pair(row.families)} ({row.model})" for row in rows.itertuples()]
    return listing(told[:most]) + (f" and {len(told) - most} more" if len(told) > most else "")


def refused(material: Material) -> list[str]:
    """What the tables at hand cannot be asked, and why."""
    conditions, spectra, runs = (material.table(name) for name in ("conditions", "spectra", "runs"))
    sentences = [
        "Layers are no replicates: they share every run's noise. Tests over layers stand here because the study reports them.",
        "A cosine says nothing without its null: both families are taken less the same baseline.",
    ]
    if len(runs) and runs.groupby(["model", "condition"]).size().max() == 1:
        sentences.append(
            "With one run of a condition nothing is known of the run-to-run noise: there are no intervals, and a p value of "
            "relabelled runs is hardly below one over the runs that could be the baseline (the floor)."
        )
    if len(spectra) and "num_evals" in spectra:
        few = spectra[(spectra["matrix"] == "W") & (spectra["num_evals"] < FEW)]
        names = few.drop_duplicates(["model", "layer"])["layer"].unique()
        if len(names):
            sentences.append(
                f"Alpha of fewer than {FEW} eigenvalues is no measurement ({listing(list(names[:4]))}"
                f"{' and others' if len(names) > 4 else ''}): left out of what recurs, kept in the study's numbers."
            )
    if len(conditions) and (conditions["family"] == "weight_decay").any():
        norms = listing([measure_name(name) for name in NORMS])
        sentences.append(
            f"Weight decay lowers {norms} by its own arithmetic, so that others differ from it there says nothing."
        )
    return sentences


def facts(material: Material) -> dict[str, object]:
    models = shown(material)
    return {
        "analysed": models,
        "numbers": {model: numbers(material, model) for model in models},
        "recurring": recurring(material),
        "verdict": verdict(material),
        "refused": refused(material) if models else [],
    }


FIGURES = (
    Figure("layer_shifts", "Shifts by family", "the study's own numbers beside what no effect gives", layer_shifts),
    Figure(
        "layer_cosines", "Alignment over layers", "cosines over layers beside their nulls", alignments, per_model=False
    ),
)
SECTION = Section("study", "The study\N{RIGHT SINGLE QUOTATION MARK}s own analysis", FIGURES, facts)
