"""The noise model: run-to-run variance, pooled over conditions and shrunk.

Var(feature j of a run of condition g) = variance_j * factor_g. Both are moderated by empirical Bayes on the log scale,
after Smyth (2004), doi 10.2202/1544-6115.1027, with a normal prior in place of the scaled inverse chi-square: the more
an estimate could be off by chance, the closer it moves to those of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma


@dataclass(frozen=True)
class Noise:
    """sd (features,): run-to-run standard deviation. factor (conditions,): a condition's variance over the pooled one.

    df: degrees of freedom of the pooled estimate; 0 where no condition has two runs, and then sd is NaN. blocks (features,):
    from 0 on. share (features,): of the distance of a log variance from the mean of its block that shrinkage has kept.
    """

    sd: np.ndarray
    factor: np.ndarray
    df: float
    blocks: np.ndarray
    share: np.ndarray

    def shrunk(self, logs: np.ndarray) -> np.ndarray:
        """Log variances (..., features) as these were shrunk, but for a constant."""
        member = np.eye(self.blocks.max() + 1)[self.blocks]
        mean = (logs @ member / member.sum(axis=0)) @ member.T
        return mean + self.share * (logs - mean)


def fit(values: np.ndarray, group: np.ndarray, blocks: np.ndarray) -> Noise:
    """Noise of values (runs, features), NaN where missing, whose runs belong to the conditions in group (runs,).

    blocks (features,): label of the features whose variances are shrunk towards each other (one measure across layers).
    """
    residuals, square, freedom = _within(values, group)
    factor = np.ones(len(square))
    df = freedom.sum(axis=0)
    runs = float(df.max(initial=0))
    # Differences in the last digits are rounding, not noise.
    floor = (1e-10 * np.abs(np.nan_to_num(values)).max(axis=0, initial=0.0)) ** 2
    blocks = np.unique(blocks, return_inverse=True)[1]
    share = np.ones(len(blocks))
    for _ in range(2):  # the second pass weights conditions by what the first found
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.where(df > 0, (square / factor[:, None]).sum(axis=0) / df, np.nan)
            variance = np.where(variance > floor, variance, np.nan)
        for members in (blocks == block for block in range(blocks.max(initial=-1) + 1)):
            logs, share[members] = shrink(np.log(variance[members]), df[members])
            variance[members] = np.exp(logs)
        standard = np.nan_to_num(residuals / np.sqrt(variance * factor[group, None]))
        factor = _factors(square / variance, freedom, effective_dimension(standard, runs))
    return Noise(np.sqrt(variance), factor, runs, blocks, share)


def effective_dimension(residuals: np.ndarray, df: float) -> float:
    """(tr R)^2 / tr R^2: how many independent features the noise R of standardised features is worth.

    residuals (runs, features), within conditions, with df degrees of freedom in all. tr R^2 is estimated without the
    bias of its plug-in estimate (Bai & Saranadasa 1996, Statistica Sinica 6:311, eq. 3.3).
    """
    if df < 2:
        return 1.0
    gram = residuals @ residuals.T / df
    trace, square = np.trace(gram), (gram**2).sum()
    unbiased = df**2 / ((df - 1) * (df + 2)) * (square - trace**2 / df)
    return float(np.clip(trace**2 / unbiased, 1.0, residuals.shape[1])) if unbiased > 0 else float(residuals.shape[1])


def shrink(logs: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logs of variance estimates (n,) with their degrees of freedom, moved towards their mean.

    log(chi2_d / d) has mean digamma(d/2) - log(d/2) and variance trigamma(d/2); what the estimates scatter beyond that
    is real. Returns the moved logs and the share (n,) of its distance from the mean that each has kept.
    """
    share = np.ones(len(logs))
    known = np.isfinite(logs) & (freedom > 0)
    if known.sum() < 2:
        return logs, share  # nothing to learn from
    half = freedom[known] / 2
    unbiased = logs[known] - digamma(half) + np.log(half)
    sampling = polygamma(1, half)
    centre = np.average(unbiased, weights=1 / sampling)
    real = max(0.0, float(np.average((unbiased - centre) ** 2 - sampling, weights=1 / sampling)))
    shrunk = logs.copy()
    share[known] = real / (real + sampling)
    # Limited translation (Efron & Morris 1972, doi 10.1080/01621459.1972.10481215): an estimate that stands out moves
    # by no more than its own standard error, so that one unruly condition is not talked down by many quiet ones.
    limit = np.sqrt(sampling)
    shrunk[known] = unbiased + np.clip((1 - share[known]) * (centre - unbiased), -limit, limit)
    return shrunk, share


def _within(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals (runs, features); sums of squares and degrees of freedom within conditions (conditions, features)."""
    groups = int(group.max(initial=-1)) + 1
    residuals = np.full_like(values, np.nan)
    freedom = np.zeros((groups, values.shape[1]))
    square = np.zeros_like(freedom)
    for index in range(groups):
        runs = values[group == index]
        finite = np.isfinite(runs)
        count = finite.sum(axis=0)
        centred = runs - np.where(finite, runs, 0.0).sum(axis=0) / np.maximum(count, 1)
        residuals[group == index] = centred
        square[index] = (np.where(finite, centred, 0.0) ** 2).sum(axis=0)
        freedom[index] = np.maximum(count - 1, 0)
    return residuals, square, freedom


def _factors(relative: np.ndarray, freedom: np.ndarray, dimension: float) -> np.ndarray:
    """Moderated variance factors (conditions,) from sums of squares in units of the pooled variance.

    Features are correlated, so a condition's trace is worth `dimension` independent features, not all of them.
    """
    usable = np.isfinite(relative)
    total = np.where(usable, relative, 0.0).sum(axis=1)
    df = np.where(usable, freedom, 0.0).sum(axis=1)
    runs = freedom.max(axis=1, initial=0)
    raw = np.where((df > 0) & (total > 0), total / np.maximum(df, 1), np.nan)
    logs, _ = shrink(np.log(raw), runs * dimension)
    factor = np.where(np.isfinite(logs), np.exp(logs), 1.0)
    return factor / np.average(factor, weights=runs) if runs.sum() > 0 else factor
