"""Rank correlations: interval, other variables partialled out, and p corrected for a search over many predictors."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
from scipy import stats

FEWEST = 4  # units behind a correlation, and one more behind its interval


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
    """Interval and two-sided p of Spearman's correlation over n units, `taken` partialled out: see `rank_correlation`."""
    r = np.clip(estimate, -1 + 1 / n**2, 1 - 1 / n**2)
    error = np.sqrt((1 + r**2 / 2) / (n - 3 - taken))
    half = stats.norm.ppf(1 - level / 2) * error
    low, high = np.tanh([np.arctanh(r) - half, np.arctanh(r) + half])
    p = 2 * stats.norm.sf(abs(np.arctanh(r)) / np.sqrt(1 / (n - 3 - taken)))
    return float(min(low, estimate)), float(max(high, estimate)), float(p)


def searched(
    predictors: np.ndarray, benefit: np.ndarray, orders: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlations (P,) of predictors (divisions, units, P) with a benefit (divisions, units), p (P,), units known (P,).

    Correlations are means over divisions. p: share of orders (R, units) of the benefit's units, the observed one first and
    counted, in which the largest correlation of all predictors in one division, in null standard deviations
    1 / sqrt(n - 1), is as large as this mean: corrected for the search over predictors (Westfall & Young 1993).
    """
    known = np.isfinite(predictors).all(axis=0)
    n = known.sum(axis=0)
    r = np.full((len(predictors), len(orders), predictors.shape[2]), np.nan)
    patterns = np.unique(known[:, n >= FEWEST], axis=1).T if (n >= FEWEST).any() else []
    for pattern in patterns:
        own = (known == pattern[:, None]).all(axis=0)
        sides = _ranks(predictors[:, pattern][:, :, own], 1)
        for division, side in enumerate(sides):
            r[division][:, own] = _ranks(benefit[division][orders][:, pattern], 1) @ side
    correlation, size = r[:, 0].mean(axis=0), np.sqrt(np.maximum(n - 1, 1))
    largest = np.max(np.nan_to_num(np.abs(r) * size), axis=2, initial=0.0)
    largest[:, 0] = np.inf
    p = (largest[:, :, None] >= np.abs(correlation) * size - 1e-9).mean(axis=(0, 1))
    return correlation, np.where(np.isfinite(correlation), p, np.nan), n


def _ranks(values: np.ndarray, axis: int) -> np.ndarray:
    """Ranks along an axis, less their mean, of length 1; NaN where all are equal."""
    ranks = stats.rankdata(values, axis=axis) - (values.shape[axis] + 1) / 2
    length = np.sqrt((ranks**2).sum(axis=axis, keepdims=True))
    return ranks / np.where(length > 0, length, np.nan)


def orders(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Orders (R, n) of n units: all where there are at most `most`, else so many at random, the present one first."""
    if factorial(n) <= most:
        return np.array(list(permutations(range(n))), dtype=int)
    return np.concatenate([np.arange(n)[None], rng.permuted(np.tile(np.arange(n), (most - 1, 1)), axis=1)])
