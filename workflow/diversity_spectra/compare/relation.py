"""Diversity against shift: over conditions of data, do sets that are more diverse move the spectra further, and which way?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.options import Options
from diversity_spectra.compare.shift import benjamini_hochberg

TARGETS = ("length_along_dropout", "length_along_weight_decay", "length")


def relation_table(metric: pd.DataFrame, runs: pd.DataFrame, plain: str, options: Options) -> pd.DataFrame:
    """One row per kernel and side of the shift, over the conditions of one model with another training set.

    metric: of `metric_table`. runs: with `train_loss`, where it is known. plain: the baseline's training set. slope: of
    the shift on the gain in ln(Vendi), by Theil and Sen (Sen 1968, doi 10.1080/01621459.1968.10480934) with its interval:
    no single condition decides on it. correlation: Spearman's. partial: the same with the change of training loss taken out
    of both sides, for data that are harder to fit move the weights whether diverse or not. q: of the correlation's p, by
    Benjamini and Hochberg over all rows.
    """
    part = metric[(metric["training_set"] != plain) & (metric["family"] != "checkpoint")]
    loss = _loss(runs).reindex(part["condition"]).to_numpy()
    kernels = [name for name in part if name.startswith("diversity_gain_") and not name.endswith(("_low", "_high"))]
    rows = []
    for kernel in kernels:
        for target in TARGETS:
            sides = part[[kernel, target]].to_numpy(dtype=float)
            known = np.isfinite(sides).all(axis=1)
            own, own_loss = sides[known], loss[known]
            slope = _slope(own, options.level)
            row = {"kernel": kernel.removeprefix("diversity_gain_"), "shift": target, "n": len(own)}
            row |= dict(zip(("slope", "slope_low", "slope_high", "intercept"), slope, strict=True))
            row |= dict(zip(("correlation", "low", "high", "p"), rank_correlation(own, options.level), strict=True))
            partial = rank_correlation(own, options.level, own_loss if np.isfinite(own_loss).all() else None)
            without = not np.isfinite(own_loss).all()
            names = ("partial", "partial_low", "partial_high", "partial_p")
            row |= dict(zip(names, [np.nan] * 4 if without else partial, strict=True))
            rows.append(row)
    columns = [
        "kernel",
        "shift",
        "n",
        "slope",
        "slope_low",
        "slope_high",
        "intercept",
        "correlation",
        "low",
        "high",
        "p",
    ]
    columns += ["partial", "partial_low", "partial_high", "partial_p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(q=benjamini_hochberg(table["p"]) if len(table) else [])


def rank_correlation(
    pair: np.ndarray, level: float, other: np.ndarray | None = None
) -> tuple[float, float, float, float]:
    """Spearman's correlation of pair (n, 2), `other` (n,) partialled out, with its interval and two-sided p.

    NaN for fewer than 4 conditions, or a side that does not vary; interval and p also for fewer than 5 and one more for
    `other`. Normal on Fisher's scale with variance (1 + r^2 / 2) / (n - 3 - k) (Bonett & Wright 2000, doi
    10.1007/BF02294183), k = 1 with `other`; r is cut to 1 - 1 / n^2 in size there.
    """
    n, taken = len(pair), 0 if other is None else 1
    sides = pair if other is None else np.column_stack([pair, other])
    if n < 4 + taken or (np.ptp(sides, axis=0) == 0).any():
        return np.nan, np.nan, np.nan, np.nan
    ranks = stats.rankdata(sides, axis=0) - (n + 1) / 2
    if other is not None:
        ranks = ranks[:, :2] - np.outer(ranks[:, 2], ranks[:, 2] @ ranks[:, :2]) / (ranks[:, 2] @ ranks[:, 2])
    size = np.sqrt((ranks**2).sum(axis=0).prod())
    if size < 1e-9 * n**2:
        return np.nan, np.nan, np.nan, np.nan
    estimate = float(ranks[:, 0] @ ranks[:, 1] / size)
    if n < 5 + taken:
        return estimate, np.nan, np.nan, np.nan
    return estimate, *rank_interval(estimate, n, level, taken)


def rank_interval(estimate: float, n: int, level: float, taken: int = 0) -> tuple[float, float, float]:
    """Interval and two-sided p of Spearman's correlation over n units, `taken` others partialled out: see `rank_correlation`."""
    r = np.clip(estimate, -1 + 1 / n**2, 1 - 1 / n**2)
    error = np.sqrt((1 + r**2 / 2) / (n - 3 - taken))
    half = stats.norm.ppf(1 - level / 2) * error
    low, high = np.tanh([np.arctanh(r) - half, np.arctanh(r) + half])
    p = 2 * stats.norm.sf(abs(np.arctanh(r)) / np.sqrt(1 / (n - 3 - taken)))
    return float(min(low, estimate)), float(max(high, estimate)), float(p)


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
