"""The Python interface: what the commands do, on things in memory. docs/python.md shows each.

    from diversity_spectra.api import compare, esd_plot, spectra, vendi

Files need no torch; torch modules and tensors are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.live import groups_of, live
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.parameter import Reference
from diversity_spectra.spectra.reparametrised import reparametrised
from diversity_spectra.spectra.table import Result, analyse

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["compare", "esd_plot", "spectra", "vendi"]


def spectra(
    model: object, reference: object | None = None, *, kappa: float | None = None, threads: int = 1, device: str = "cpu",
    **options: object,
) -> pd.DataFrame:  # fmt: skip
    """Spectra of the weight matrices of a network: one row per layer and matrix, columns as in docs/reference/tables.md.

    Args:
        model: a path, a torch module, or a state dict of tensors or arrays.
        reference: likewise, the weights that training started from: adds rows `dW` and the overlap of subspaces.
        kappa: product of (1 - learning rate * decay) over training, which `dW_corrected` takes out of dW.
        threads: matrices analysed at a time; the result does not depend on it.
        device: `cuda` takes the eigenvalues on a GPU.
        options: of `spectra.options.Options`, such as `convention="weightwatcher"` or `include=("blocks.*",)`.

    Raises:
        UserError: what cannot be read, an option that does not exist, or no GPU.
    """
    return _analyse(model, reference, kappa, threads, options, device).rows


def esd_plot(
    model: object, layer: str, matrix: str = "W", *, reference: object | None = None, scale: str = "log",
    axes: Axes | None = None, **options: object,
) -> Axes:  # fmt: skip
    """Draw the eigenvalues of one layer with its power-law and Marchenko-Pastur fits; returns the axes.

    model, reference, options: as in `spectra`. matrix: `W`, or `dW` with a reference. scale: `log` or `linear`.
    """
    from diversity_spectra.spectra.plot import draw_esd

    result = _analyse(model, reference, None, 1, {**options, "include": (layer,)})
    rows = result.rows.query("analysed and layer == @layer and matrix == @matrix")
    if rows.empty:
        raise UserError(f"no spectrum of layer {layer}, matrix {matrix}")
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(layout="constrained")
    draw_esd(axes, result.eigenvalues[f"{layer}|{matrix}"], rows.iloc[0].to_dict(), scale)
    axes.set_title(f"{layer}, {matrix}")
    axes.legend(fontsize="small", frameon=False)
    return axes


def vendi(
    items: object, labels: Sequence[object] | None = None, orders: Iterable[float] = (1.0, 2.0, np.inf), *,
    per_class: int | None = None, subsamples: int = 5, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Vendi scores: how many really different items a set holds, by class and over all.

    Args:
        items: images (N, H, W) or (N, H, W, C) of uint8, scored by the cosine of their pixels, plain and centred; or features
            (N, d) of any real type, scored by their cosine.
        labels: class of each item (N,); without them all are of one class.
        orders: of the score, above 0; 1 counts rare items fully, inf only the commonest direction.
        per_class: items per class in every score, which grows with it (default: 80 % of the smallest class).
        subsamples: random subsamples behind each interval.

    Returns:
        Rows kernel, order, label, score, low, high, n, as in the table `diversity`.
    """
    import pandas as pd

    from diversity_spectra.diversity import vendi as scores

    items = np.asarray(items.detach().cpu() if hasattr(items, "detach") else items)
    names, codes = (["all"], np.zeros(len(items), int)) if labels is None else np.unique(labels, return_inverse=True)
    names = [str(name) for name in names]
    if len(codes) != len(items):
        raise UserError(f"{len(codes)} labels for {len(items)} items")
    if items.ndim in (3, 4):
        if items.dtype != np.uint8:
            raise UserError(f"images are (N, H, W) or (N, H, W, C) of uint8, not {items.dtype}; features are (N, d)")
        rows = scores.pixel_rows(items[..., None] if items.ndim == 3 else items)
        kernels = {
            "pixel": lambda chosen: (rows[chosen], None),
            "pixel_centred": lambda chosen: (rows[chosen], rows[chosen].mean(axis=0, dtype=np.float64)),
        }
    elif items.ndim == 2:
        kernels = {"cosine": lambda chosen: (items[chosen], None)}
    else:
        raise UserError(f"items are images (N, H, W, C) or features (N, d), not an array of shape {items.shape}")
    per_class = per_class or max(1, int(0.8 * scores.class_sizes(codes, names).min()))
    try:
        table = scores.score_table(kernels, codes, names, per_class, subsamples, seed, list(orders))
    except ValueError as error:
        raise UserError(str(error)) from None
    return pd.DataFrame(table)


def compare(tables: Mapping[str, pd.DataFrame], **options: object) -> dict[str, pd.DataFrame]:
    """Every condition against the baseline and the controls: tables in, tables out, by name.

    tables: runs, conditions, diversity, evaluation and spectra, as `diversity-spectra collect` or an experiment writes them.
    options: of `compare.options.Options`, such as `bootstrap=2000`. Raises `UserError` for a missing table or column.
    """
    from diversity_spectra.compare import study
    from diversity_spectra.compare.options import Options as Comparison

    return study.compare(dict(tables), Comparison(**options))


def _analyse(
    model: object, reference: object | None, kappa: float | None, threads: int, options: Mapping[str, object],
    device: str = "cpu",
) -> Result:  # fmt: skip
    if not isinstance(model, str | Path):
        options = {"groups": groups_of(model), **options}
        model = reparametrised(live(model))
    if reference is not None and not isinstance(reference, str | Path | Reference):
        reference = Reference(reparametrised(live(reference)))
    try:
        chosen = Options(**options)
    except TypeError as error:
        raise UserError(str(error).replace("Options.__init__() got an ", "")) from None
    return analyse(model, reference, chosen, kappa, threads, device)
