"""`diversity-spectra plot-esd`: the spectrum of one layer with its power-law and Marchenko-Pastur fits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra import marchenko_pastur

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLE = """\
example:
  diversity-spectra plot-esd eigs.npz --layer blocks.0.attn.proj --rows rows.csv --out esd.png
"""
# Okabe and Ito's palette, distinguishable with any colour vision.
HISTOGRAM, TAIL, BULK = "#999999", "#D55E00", "#0072B2"
SMALLEST_SHOWN = 1e-8


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument(
        "eigenvalues", type=Path, metavar="NPZ", help="written by `diversity-spectra spectra --eigenvalues`"
    )
    parser.add_argument("--layer", required=True, help="as in the table's column `layer`")
    parser.add_argument("--matrix", default="W", help="W (default), dW or dW_corrected")
    parser.add_argument("--rows", type=Path, help="the table of the same analysis: adds the fits")
    parser.add_argument("--out", type=Path, required=True, metavar="FIGURE", help=".png, .svg or .pdf")


def run(arguments: argparse.Namespace) -> int:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from diversity_spectra.files import atomic_file

    if arguments.out.suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"{arguments.out}: a figure's name ends in .png, .svg or .pdf")
    values = read_eigenvalues(arguments.eigenvalues, arguments.layer, arguments.matrix)
    row = read_row(arguments.rows, arguments.layer, arguments.matrix) if arguments.rows else {}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    draw_esd(left, values, row, scale="log")
    draw_esd(right, values, row, scale="linear")
    figure.suptitle(f"{arguments.layer}, {arguments.matrix}: {len(values)} eigenvalues")
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small", frameon=False
    )
    # Without a date, the same figure has the same bytes.
    metadata = {"Date": None} if arguments.out.suffix == ".svg" else {}
    with atomic_file(arguments.out) as temporary, matplotlib.rc_context({"svg.hashsalt": "esd"}):
        figure.savefig(temporary, dpi=150, metadata=metadata)
    plt.close(figure)
    return 0


def read_eigenvalues(path: Path, layer: str, matrix: str) -> np.ndarray:
    """The (n,) eigenvalues stored under `layer|matrix`.

    Raises:
        UserError: no such file, or no such layer; the message names layers that are there.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    key = f"{layer}|{matrix}"
    try:
        with np.load(path) as stored:
            if key in stored:
                return stored[key]
            names = stored.files
    except (ValueError, OSError, EOFError, TypeError, AttributeError, BadZipFile):
        raise UserError(f"{path}: damaged, or not a file of eigenvalues") from None
    near = [name for name in names if layer in name] or names
    raise UserError(f"{path}: no {key}; there are {', '.join(near[:5])}{', ...' if len(near) > 5 else ''}")


def read_row(path: Path, layer: str, matrix: str) -> dict:
    from diversity_spectra.tables import read_table

    rows = read_table(path).query("layer == @layer and matrix == @matrix")
    if len(rows) == 0:
        raise UserError(f"{path}: no row for layer {layer}, matrix {matrix}")
    return rows.iloc[0].to_dict()


def draw_esd(axes: Axes, eigenvalues: np.ndarray, row: dict | None = None, scale: str = "log", bins: int = 60) -> None:
    """Draw the density of eigenvalues, with the fits that `row` holds.

    Args:
        eigenvalues: (n,) of W^T W, not divided by N.
        row: a row of the table of spectra; `alpha`, `xmin` and `num_pl_spikes` give the power law, `sigma_mp`,
            `bulk_max`, `N`, `M` and the spreads of the strict convention the Marchenko-Pastur law. Missing or NaN values
            leave out their curve.
        scale: `log` for logarithmic axes, on which a power law is a line; `linear` shows the bulk.
    """
    row = row or {}
    largest = eigenvalues.max(initial=0)
    shown = eigenvalues[eigenvalues > SMALLEST_SHOWN * largest]
    axes.set(xlabel="eigenvalue of $W^T W$", ylabel="density")
    if len(shown) == 0:
        axes.text(0.5, 0.5, "all eigenvalues are zero", ha="center", transform=axes.transAxes)
        return
    low, high = (shown.min() if scale == "log" else 0.0), largest * 1.001
    if scale == "linear" and _has(row, "spike_edge"):
        # A few large spikes would press the bulk into one bin.
        high = min(high, 2 * row["spike_edge"])
    edges = np.geomspace(low, high, bins + 1) if scale == "log" else np.linspace(low, high, bins + 1)
    density, _ = np.histogram(shown, edges)
    # Per eigenvalue of the whole spectrum, so that the fitted parts can be drawn at their share.
    density = density / (len(eigenvalues) * np.diff(edges))
    axes.stairs(density, edges, fill=True, color=HISTOGRAM, alpha=0.6, label="eigenvalues")
    top = density.max()
    if _has(row, "alpha", "xmin") and row["alpha"] > 1:
        x = np.geomspace(row["xmin"], largest, 200)
        share = np.count_nonzero(eigenvalues >= row["xmin"]) / len(eigenvalues)
        y = share * (row["alpha"] - 1) / row["xmin"] * (x / row["xmin"]) ** -row["alpha"]
        axes.plot(x, y, color=TAIL, label=f"power law, alpha = {row['alpha']:.2f}{_quality(row)}")
        axes.axvline(row["xmin"], color=TAIL, linestyle=":", linewidth=1, label="xmin, where its fit begins")
        top = max(top, y.max()) if scale == "log" else top
    if _has(row, "sigma_mp", "bulk_max", "N", "M") and row.get("convention") == "strict":
        # The bulk is that of a matrix smaller by its spikes, as in `fit_bulk`; its variances are drawn as lognormal.
        aside = row["num_spikes"] / row["num_matrices"]
        spreads = [row[name] if _has(row, name) else 0.0 for name in ("mp_row_spread", "mp_column_spread")]
        law = marchenko_pastur.Law.lognormal(int(row["N"]), int(row["M"]), *spreads).without(aside)
        x = np.geomspace(max(row["bulk_min"], low, 1e-6 * row["bulk_max"]), row["bulk_max"], 300)
        scale_of_law = row["sigma_mp"] ** 2
        y = marchenko_pastur.density(x / scale_of_law, law) / scale_of_law * (1 - row["num_spikes"] / len(eigenvalues))
        axes.plot(x, y, color=BULK, label=f"Marchenko-Pastur, {int(row['num_spikes'])} spikes{_doubt(row)}")
        axes.axvline(row["bulk_max"], color=BULK, linestyle="--", linewidth=1, label="edge of its bulk")
    if scale == "log":
        axes.set(xscale="log", yscale="log", ylim=(density[density > 0].min() / 3, top * 3))
    else:
        axes.set(xlim=(0, high), ylim=(0, top * 1.1))
        if beyond := int(np.count_nonzero(eigenvalues > high)):
            axes.text(0.97, 0.5, f"{beyond} beyond, to {largest:.3g}", ha="right", transform=axes.transAxes)


def _has(row: dict, *names: str) -> bool:
    return all(row.get(name) is not None and np.isfinite(float(row[name])) for name in names)


def _doubt(row: dict) -> str:
    return "" if row.get("mp_holds", True) in (True, np.True_) else " (does not hold)"


def _quality(row: dict) -> str:
    """The interval of alpha, and how well the power law fits: Kolmogorov-Smirnov distance D and p."""
    interval = f" [{row['alpha_low']:.2f}, {row['alpha_high']:.2f}]" if _has(row, "alpha_low", "alpha_high") else ""
    return interval + "".join(
        f", {name} = {row[key]:.2g}" for name, key in (("D", "D"), ("p", "goodness_p")) if _has(row, key)
    )
