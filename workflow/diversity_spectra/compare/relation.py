"""Diversity against shift: over kinds of data, do sets that are more diverse move the spectra further, and which way?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.options import Options
from diversity_spectra.compare.ranks import orders, rank_correlation, searched

TARGETS = ("length_along_dropout", "length_along_weight_decay", "length")
SLOPE = ("slope", "slope_low", "slope_high", "intercept")
PARTIAL = ("partial", "partial_low", "partial_high", "partial_p")
COLUMNS = ["kernel", "shift", "n", *SLOPE, "correlation", "low", "high", "p", *PARTIAL]


def relation_table(metric: pd.DataFrame, runs: pd.DataFrame, plain: str, options: Options) -> pd.DataFrame:
    """One row per kernel and side of the shift, over the kinds of one model's conditions with another training set.

    metric: of `metric_table`. runs: with `train_loss`, where it is known. plain: the baseline's training set. The unit is a
    kind, with the means over its strengths, which are not independent. slope: of the shift on the gain in ln(Vendi), by Theil
    and Sen (Sen 1968, doi 10.1080/01621459.1968.10480934) with its interval: no single kind decides on it. correlation:
    Spearman's; p by permutation of the kinds, against the largest correlation of all kernels with this side. partial: with the
    change of training loss taken out of both sides, for data that are harder to fit move the weights whether diverse or not.
    """
    part = metric[(metric["training_set"] != plain) & ~metric["family"].isin(("checkpoint", "combinations"))]
    kernels = [name for name in part if name.startswith("diversity_gain_") and not name.endswith(("_low", "_high"))]
    part = part.assign(train_loss=_loss(runs).reindex(part["condition"]).to_numpy())
    kinds = part.groupby(["family", part["kind"].fillna("")], sort=False)[[*kernels, *TARGETS, "train_loss"]]
    means = kinds.mean()
    rows = []
    for target in TARGETS:
        units = means[means[target].notna()]
        shuffled = orders(len(units), options.permutations, options.generator(f"relation/{target}"))
        searched_p = searched(units[kernels].to_numpy()[None], units[target].to_numpy()[None], shuffled)[1]
        for kernel, p in zip(kernels, searched_p, strict=True):
            own = units.dropna(subset=kernel)
            sides, loss = own[[kernel, target]].to_numpy(dtype=float), own["train_loss"].to_numpy(dtype=float)
            row = {"kernel": kernel.removeprefix("diversity_gain_"), "shift": target, "n": len(own)}
            row |= dict(zip(SLOPE, _slope(sides, options.level), strict=True))
            row |= dict(zip(("correlation", "low", "high"), rank_correlation(sides, options.level), strict=False))
            without = rank_correlation(sides, options.level, loss) if np.isfinite(loss).all() else [np.nan] * 4
            rows.append({**row, "p": p, **dict(zip(PARTIAL, without, strict=True))})
    return pd.DataFrame(rows, columns=COLUMNS)


def _slope(pair: np.ndarray, level: float) -> tuple[float, float, float, float]:
    """Theil and Sen's slope with its interval, and the intercept; NaN for fewer than 5 points or a side without variation."""
    if len(pair) < 5 or np.ptp(pair[:, 0]) == 0:
        return np.nan, np.nan, np.nan, np.nan
    found = stats.theilslopes(pair[:, 1], pair[:, 0], alpha=1 - level)
    return float(found.slope), float(found.low_slope), float(found.high_slope), float(found.intercept)


def _loss(runs: pd.DataFrame) -> pd.Series:
    """Mean training loss by condition; the baseline's would be taken from all alike, so ranks do not change with it."""
    if "train_loss" not in runs:
        return pd.Series(dtype=float)
    return runs.groupby("condition")["train_loss"].mean()
