"""Does the metric predict? Rank correlations, over kinds of conditions, of predictors with the benefits of other runs."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.benefits import BENEFITS
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.relation import rank_interval

TARGETS = ("ood_accuracy", "id_accuracy", "calibration")
FEWEST = 4  # kinds behind a correlation, and one more behind its interval


def validation_table(metric: pd.DataFrame, halves: list[pd.DataFrame], plain: str, options: Options) -> pd.DataFrame:
    """Spearman correlation of every predictor with every benefit over kinds, with its interval and p.

    metric: of one model. halves: `halves.halves` of its runs. plain: the baseline's training set. The unit is a kind, with the
    means over its strengths, which are not independent. scope: `data` = kinds with another training set, where all predictors
    vary; `all` = every trained kind. Combinations are of kinds that are there already, and left out.
    """
    used = ~metric["family"].isin(("checkpoint", "combinations"))
    kinds = metric["family"] + " " + metric["kind"].fillna("")
    other = np.arange(len(halves)) ^ 1  # the half that a predictor's benefit is from
    rows = []
    for scope, chosen in {"data": used & (metric["training_set"] != plain), "all": used}.items():
        tables = pd.concat([table[chosen] for table in halves], keys=range(len(halves)))
        means = tables.groupby([tables.index.get_level_values(0), [*kinds[chosen]] * len(halves)], sort=False).mean()
        names = [name for name in means if name not in BENEFITS]
        predictors = means[names].to_numpy(dtype=float).reshape(len(halves), -1, len(names))
        for target in TARGETS:
            benefit = means[target].to_numpy(dtype=float).reshape(len(halves), -1)[other]
            known = np.isfinite(benefit).all(axis=0)
            rng = options.generator(f"validation/{scope}/{target}")
            orders = _orders(int(known.sum()), options.permutations, rng)
            found = searched(predictors[:, known], benefit[:, known], orders)
            for name, correlation, p, n in zip(names, *found, strict=True):
                enough = np.isfinite(correlation) and n > FEWEST
                low, high, _ = rank_interval(correlation, n, options.level) if enough else [np.nan] * 3
                row = {"scope": scope, "predictor": name, "benefit": target, "correlation": correlation}
                rows.append({**row, "low": low, "high": high, "p": p, "n": n})
    return pd.DataFrame(rows)


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


def _orders(n: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """Orders (R, n) of n units: all where there are at most `most`, else so many at random, the present one first."""
    if factorial(n) <= most:
        return np.array(list(permutations(range(n))), dtype=int)
    return np.concatenate([np.arange(n)[None], rng.permuted(np.tile(np.arange(n), (most - 1, 1)), axis=1)])
