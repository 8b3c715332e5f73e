"""Spectra by family, their measures against strength, and the shift of every layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.lines import Line2D

from diversity_spectra.report.marks import baseline_band, marks_told, run_marks
from diversity_spectra.report.material import CONTROLS, MEASURES, SCALES, Material, Spectrum, run_counts, summarise
from diversity_spectra.report.section import Figure, Section
from diversity_spectra.report.style import DENSE, FAINT, INK, MUTED, WIDTH, Drawing, canvas, log_ticks, paint_ticks
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import (
    MATRICES,
    MINUS,
    NOTHING,
    counted,
    fixed,
    listing,
    number,
    plain,
    probability,
    tick,
)
from diversity_spectra.report.words import condition as told
from diversity_spectra.report.words import measure as measure_name

PRETRAINED = "pretrained"
MOST_LINES = 5  # of one family: more than that cannot be told apart
BANDWIDTH = 0.09  # of the smoothing, decades
GRID = 160


def esd_conditions(conditions: pd.DataFrame) -> dict[str, list[str]]:
    """Conditions to overlay, by family, weakest to strongest: the kind with most levels, or the strongest of each."""
    chosen = {}
    for family, group in conditions[conditions["family"] != "baseline"].groupby("family", sort=False):
        names = list(group["condition"])
        kinds = group.groupby("kind", sort=False)["condition"]
        if len(kinds) > 1:
            longest = max((list(members) for _, members in kinds), key=len)
            names = longest if len(longest) > 2 else list(kinds.last())
        picked = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_LINES)).round().astype(int))
        chosen[str(family)] = [names[index] for index in picked]
    return chosen


def esd_layers(spectra: pd.DataFrame, most: int = 3) -> list[str]:
    """Layers to show: evenly spread in depth among those with enough eigenvalues to have a shape."""
    rows = spectra[spectra["alpha"].notna()]
    if rows.empty:
        return []
    sizes = rows.groupby("layer").agg(depth=("depth", "first"), size=("num_evals", "max"))
    sizes = sizes.assign(name=sizes.index).sort_values(["depth", "name"])
    large = sizes[sizes["size"] >= min(64, sizes["size"].max())]
    picked = np.unique(np.linspace(0, len(large) - 1, min(most, len(large))).round().astype(int))
    return [large.index[index] for index in picked]


def esd(material: Material, model: str) -> Drawing:
    """Families down, layers across: smoothed densities on log scales, fits of the tails dashed."""
    spectra = material.spectra.get(model, [])
    if not spectra:
        return Drawing("The eigenvalues of this model were not given to this report, or no layer has enough of them.")
    conditions = material.conditions(model)
    groups = {
        family: names
        for family, names in esd_conditions(conditions).items()
        if any(spectrum.condition in names for spectrum in spectra)
    }
    layers = list(dict.fromkeys(spectrum.layer for spectrum in spectra))
    by_key = {(spectrum.condition, spectrum.layer): spectrum for spectrum in spectra}
    baseline = conditions.loc[conditions["family"] == "baseline", "condition"].iloc[0]
    rows = list(groups) or ["baseline"]
    figure, axes = canvas(WIDTH, 0.5 + 1.75 * len(rows), len(rows), len(layers), sharex="col", sharey="col")
    for position, (row, family) in enumerate(zip(axes, rows, strict=True)):
        names = groups.get(family, [])
        shades = material.palette.shades(family, len(names))
        lines = {baseline: (INK, "-"), **{name: (shade, "-") for name, shade in zip(names, shades, strict=True)}}
        if any(spectrum.condition == PRETRAINED for spectrum in spectra):
            lines = {PRETRAINED: (MUTED, ":"), **lines}
        for ax, layer in zip(row, layers, strict=True):
            ax.set(xscale="log", yscale="log")
            for name, (colour, dash) in lines.items():
                if (name, layer) in by_key:
                    _density(ax, by_key[name, layer], colour, dash)
            ax.grid(color=FAINT, lw=0.4)
            if position == 0:
                ax.set_title(layer)
        row[0].set_ylabel(f"{plain(family)}\ndensity per decade", color=material.palette.ink(family))
        handles = [
            Line2D([], [], color=colour, ls=dash, label=_alphas(name, layers, by_key))
            for name, (colour, dash) in lines.items()
        ]
        row[-1].legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.03), title="alpha, by column", title_fontsize=6.5,
            fontsize=6.5, handlelength=1.2, borderaxespad=0.2, alignment="left",
        )  # fmt: skip
    for ax, layer in zip(axes[0], layers, strict=True):
        _limits(ax, [spectrum.eigenvalues for (_, other), spectrum in by_key.items() if other == layer])
        log_ticks(ax.xaxis)
        log_ticks(ax.yaxis)
    matrix = material.matrix(model)
    figure.supxlabel(f"eigenvalue of {matrix}ᵀ{matrix}", fontsize=8)
    missing = sorted(set(conditions["condition"]) - {spectrum.condition for spectrum in spectra})
    dropped = [name for names in groups.values() for name in names if name in missing]
    first = ", the pretrained network dotted" if any(spectrum.condition == PRETRAINED for spectrum in spectra) else ""
    caption = (
        f"Empirical spectral densities: how the eigenvalues of a layer ({MATRICES[matrix]}) are spread, in {len(layers)} "
        f"of the layers ({listing(layers)}), by family from weak (light) to strong (dark); of many conditions, a "
        f"selection{first}; baseline black. Each curve is one run (n = 1, the first seed), smoothed; dashed: the power law "
        "fitted to its tail, whose exponent alpha stands beside it. A line that moves left has a smaller matrix; a "
        "dashed line that falls less steeply means a heavier tail: a few directions "
        "carry more. "
        + material.rejected(model)
        + (f" Not available: {listing(list(map(told, dropped)))}." if dropped else "")
    )
    return Drawing(caption, figure)


def density(eigenvalues: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Share of eigenvalues per decade at grid (g,), both in log10, smoothed with a Gaussian of BANDWIDTH decades."""
    logs = np.log10(eigenvalues[eigenvalues > 0])
    weights = np.exp(-0.5 * ((grid[:, None] - logs) / BANDWIDTH) ** 2)
    return weights.mean(axis=1) / (BANDWIDTH * np.sqrt(2 * np.pi))


def _density(ax: Axes, spectrum: Spectrum, colour: str, dash: str) -> None:
    values = _large(spectrum.eigenvalues)
    if not len(values):
        return
    grid = np.linspace(np.log10(values.min()) - 0.2, np.log10(values.max()) + 0.2, GRID)
    ax.plot(10**grid, density(values, grid), dash, color=colour, lw=1.1)
    if np.isfinite(spectrum.alpha) and np.isfinite(spectrum.xmin):
        tail = np.array([spectrum.xmin, values.max()])
        share = np.mean(values >= spectrum.xmin)
        law = share * np.log(10) * (spectrum.alpha - 1) * (tail / spectrum.xmin) ** (1 - spectrum.alpha)
        ax.plot(tail, law, "--", color=colour, lw=0.8)


def _alphas(name: str, layers: list[str], spectra: dict[tuple[str, str], Spectrum]) -> str:
    """Legend of one condition with its exponent in each column."""
    found = [fixed(spectra[name, layer].alpha, 1) if (name, layer) in spectra else NOTHING for layer in layers]
    return f"{name if name == PRETRAINED else tick(name)}: {', '.join(found)}"


def _limits(ax: Axes, spectra: list[np.ndarray]) -> None:
    """Cut off the far left, where single tiny eigenvalues would stretch the axis, and less than one of them."""
    spectra = [values for values in map(_large, spectra) if len(values)]
    if spectra:
        ax.set_xlim(min(np.quantile(values, 0.02) for values in spectra) / 1.4, max(map(np.max, spectra)) * 1.6)
        peak = max(line.get_ydata().max() for line in ax.get_lines())
        ax.set_ylim(2 / max(map(len, spectra)), 1.5 * peak)


def _large(eigenvalues: np.ndarray) -> np.ndarray:
    """Those that rounding has not made: they have a place on a log axis."""
    return eigenvalues[eigenvalues > eigenvalues.max(initial=0.0) * 1e-12]


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
    title = 7 if min(map(len, groups)) <= 2 else 8.5
    baseline = conditions.loc[conditions["family"] == "baseline", "condition"]
    for position, (row, name) in enumerate(zip(axes, shown, strict=True)):
        summary = summarise(runs, name, material.level)
        for ax, group, family in zip(row, groups, families, strict=True):
            if len(baseline) and baseline.iloc[0] in summary.index:
                baseline_band(ax, summary.loc[baseline.iloc[0]], vertical=False)
            colour = material.palette.colour(family)
            for _, members in group.groupby("kind", sort=False, dropna=False):
                known = [condition for condition in members["condition"] if condition in summary.index]
                if members["strength"].notna().all() and len(known) > 1:
                    places = [list(group["condition"]).index(condition) for condition in known]
                    ax.plot(places, summary.loc[known, "mean"], color=colour, lw=1, zorder=2)
            run_marks(ax, group, runs, name, summary, material)
            ax.set_xlim(-0.6, len(group) - 0.4)
            ax.set_xticks(range(len(group)), [])
            ax.grid(axis="y", color=FAINT, lw=0.5)
            if position == 0:
                ax.set_title(plain(family), color=material.palette.ink(family), fontsize=title)
            if position == len(shown) - 1:
                ax.set_xticks(range(len(group)), [_strength(row) for row in group.itertuples()], rotation=90)
        row[0].set_ylabel(measure_name(name, matrix))
    counts = run_counts(conditions["condition"], runs.dropna(subset=shown, how="all"))
    band = (
        "The grey band is the baseline. A technique that acts on the spectra leaves the band, and further at greater strength."
        if max(counts, default=0) > 1
        else "The line across is the baseline."
    )
    caption = (
        f"Shape of the spectra of {MATRICES[matrix]} (mean over "
        f"layers{', geometric for ranks' if set(shown) & set(SCALES) else ''}) against the strength of each technique, "
        f"weakest left. {marks_told(counts, material.confidence)}; lines join strengths of one kind. {band} "
        f"{material.rejected(model)}"
    )
    return Drawing(caption, figure)


def _strength(row) -> str:
    """Tick of one condition: its strength where the panel's title says the rest."""
    if row.family in CONTROLS and np.isfinite(row.strength):
        return f"{row.strength:g}"
    return tick(row.condition, broken=True).removeprefix("synthetic ")


def layers(material: Material, model: str) -> Drawing:
    """One heat map per measure: layers in depth order down, conditions across, colour = shift in noise units."""
    table = material.table("shift", model)
    matrix = material.matrix(model)
    table = table[(table["test_family"] == matrix) & table["measure"].isin(MEASURES)] if len(table) else table
    if table.empty:
        return Drawing("No shift could be computed for this model.")
    if table["standardised"].isna().all():
        return Drawing("With one run of each condition nothing is known of the run-to-run noise.")
    conditions = material.conditions(model)
    conditions = conditions[conditions["condition"].isin(table["condition"])]
    names, families = list(conditions["condition"]), list(conditions["family"])
    depth = table[["depth", "layer"]].drop_duplicates().sort_values(["depth", "layer"])
    measures = [name for name in MEASURES if name in set(table["measure"])]
    rows, columns = (len(measures), 1) if len(depth) <= 8 else (2, -(-len(measures) // 2))
    if len(names) <= 8 < len(depth):
        rows, columns = 1, len(measures)
    cells = len(names) * columns
    height = 1.2 + rows * (0.25 + max(0.12 * len(depth), 0.5))
    figure, axes = canvas(max(0.2 * cells + 2.2, min(WIDTH, 0.5 * cells + 2.6)), height, rows, columns)
    top = max(4.0, float(np.nanquantile(table["standardised"].abs(), 0.99)))
    norm = AsinhNorm(linear_width=2.0, vmin=-top, vmax=top)
    for ax, name in zip(axes.flat, measures, strict=False):
        wide = table[table["measure"] == name].pivot_table(
            index=["depth", "layer"], columns="condition", values=["standardised", "q"], aggfunc="mean"
        )
        order = pd.MultiIndex.from_frame(depth)
        shift = wide["standardised"].reindex(index=order, columns=names)
        ax.set_facecolor(FAINT)
        dense = shift.size > DENSE
        edge = 0.4 if len(depth) <= 20 and not dense else 0
        sns.heatmap(
            shift,
            ax=ax,
            cmap="vlag",
            norm=norm,
            cbar=False,
            linewidths=edge,
            rasterized=dense,
            xticklabels=False,
            yticklabels=False,
        )
        place_y, place_x = np.nonzero(wide["q"].reindex(index=order, columns=names).to_numpy() < material.level)
        ax.scatter(place_x + 0.5, place_y + 0.5, s=4, color=INK, linewidths=0, rasterized=dense)
        title = measure_name(name, matrix)
        ax.set(title=title.replace(" of ", "\nof ") if columns > 1 else title, xlabel="", ylabel="")
        ax.tick_params(length=0)
        ax.set(xticks=[], yticks=[])
    for ax in axes[:, 0]:
        ax.set_yticks(np.arange(len(depth)) + 0.5, depth["layer"], rotation=0, fontsize=7 if len(depth) <= 20 else 6)
    for ax in axes[-1]:
        ax.set_xticks(np.arange(len(names)) + 0.5, [tick(name, broken=True) for name in names], rotation=90)
        paint_ticks(ax.xaxis, families, material.palette)
    for ax in list(axes.flat)[len(measures) :]:
        ax.set_axis_off()
    ticks = [tick for tick in (-100, -30, -10, -3, 0, 3, 10, 30, 100) if abs(tick) <= top]
    bar = figure.colorbar(axes.flat[0].collections[0], ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.02, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:+d}".replace("-", MINUS) if tick else "0" for tick in ticks])
    bar.set_label("shift, in run-to-run standard deviations")
    bar.outline.set_visible(False)
    base = int(table["n_baseline"].max())
    caption = (
        f"Where in the network each technique acts: shift from the baseline's mean, for {MATRICES[matrix]}; in units of "
        f"the run-to-run noise, layers from input (top) to output. A dot marks a shift with q < {material.level:g} "
        "(corrected over all tests); colour without a dot may be noise; grey: not measured. n = "
        f"{counted(list(table['n']))} a condition against {base} of the baseline; colours "
        f"saturate at ±{top:.0f}."
    )
    return Drawing(caption, figure)


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
                f"{measure_name(best['measure'])} of {best['layer']} ({plain(best['matrix'])})",
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


def facts(material: Material) -> dict[str, object]:
    fits = {model: material.rejected(model) for model in material.models}
    found = {"shifts": {model: shifts(material, model) for model in material.models}, "fits": fits}
    runs, families = material.table("runs"), set(material.table("conditions")["family"])
    return found | {
        "shrunk": "kappa" in runs and bool((runs["kappa"] != 1).any()),
        "decayed": "weight_decay" in families,
    }


FIGURES = (
    Figure(
        "esd",
        "Spectra by family",
        "densities of the eigenvalues of some layers, from weak to strong, with the power laws fitted to their tails",
        esd,
    ),
    Figure(
        "dose_response",
        "Measures against strength",
        "measures of the spectra, mean over layers, against the strength of each technique",
        dose_response,
    ),
    Figure(
        "layers",
        "Shift by layer",
        "shift of each measure from the baseline by layer and condition, in units of the noise between runs",
        layers,
    ),
)
SECTION = Section("spectra", "Spectra", FIGURES, facts)
