"""Power-law fit of a spectrum's tail, with exact search over every xmin.

Clauset, Shalizi and Newman, "Power-law distributions in empirical data", SIAM Review 51 (2009), arXiv 0706.1062.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Points of each tail at which a lower bound of its distance is computed before any exact distance.
PROBES = 24
MIN_TAIL = 8  # values; of fewer an exponent says nothing


@dataclass(frozen=True)
class Tail:
    """A fitted tail: density (alpha - 1) / xmin * (x / xmin)^-alpha for x >= xmin.

    Attributes:
        D: Kolmogorov-Smirnov distance of the tail.
        sigma: standard error (alpha - 1) / sqrt(n).
        n: number of values >= xmin (at the chosen index; ties below it are not counted).
        log_sum: sum of ln(x / xmin) over the tail.
    """

    alpha: float
    xmin: float
    D: float
    sigma: float
    n: int
    log_sum: float


def exponents(values: np.ndarray, correction: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of n ascending values but the last, taken as xmin: alpha, number of values, sum of ln(x / xmin).

    alpha = 1 + (n - correction) / sum (Clauset et al., eq. 3.1), by running sums over the logarithms.
    """
    # Logarithms relative to the largest: the running sums then lose nothing to the scale of the values.
    logs = np.log(values) - np.log(values[-1])
    counts = np.arange(len(values), 0, -1.0)
    sums = (np.cumsum(logs[::-1])[::-1] - counts * logs)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        alphas = 1 + (counts[:-1] - correction) / sums
    return alphas, counts[:-1], sums


def fit_tail(values: np.ndarray, two_sided: bool = True, min_tail: int = MIN_TAIL, correction: int = 0) -> Tail | None:
    """The tail whose Kolmogorov-Smirnov distance is smallest, over every value with at least `min_tail` above it.

    Args:
        values: (n,) positive, ascending.
        two_sided: distance to both the upper and the lower step of the empirical distribution; False takes the lower
            step only, as WeightWatcher does.
        min_tail: smallest number of values in a tail.
        correction: 1 takes n - 1 in place of n in alpha (WeightWatcher's rule for small samples).

    Returns:
        The first of the minima, or None where no tail has a finite exponent above 1.
    """
    size = len(values)
    if size < max(2, min_tail):
        return None
    alphas, counts, sums = exponents(values, correction)
    logs = np.log(values)
    valid = (alphas > 1) & (counts >= min_tail)
    if not two_sided:
        valid &= ~np.isnan(alphas)
    else:
        valid &= np.isfinite(alphas)
    if correction:
        valid &= sums > 1e-12  # WeightWatcher's limit for values that are all equal
    candidates = np.flatnonzero(valid)
    if len(candidates) == 0:
        return None
    bounds = _lower_bounds(logs, alphas, counts, candidates, two_sided)
    best, best_index = np.inf, -1
    for position in np.argsort(bounds, kind="stable"):
        # The bound may exceed the exact distance by rounding, never by more than this.
        if bounds[position] > best + 1e-12:
            break
        index = candidates[position]
        distance = tail_distance(logs[index:], alphas[index], two_sided)
        if distance < best or (distance == best and index < best_index):
            best, best_index = distance, index
    alpha, count = float(alphas[best_index]), int(counts[best_index])
    return Tail(alpha, float(values[best_index]), float(best), (alpha - 1) / count**0.5, count, float(sums[best_index]))


def bootstrap(
    values: np.ndarray, tail: Tail, draws: int, rng: np.random.Generator, min_tail: int = MIN_TAIL, level: float = 0.95
) -> tuple[float, float, float]:
    """Interval of alpha with xmin chosen anew in each draw, and goodness of fit (Clauset et al., section 4.1).

    A draw has as many values: from the fitted law with the tail's share, from the values below xmin otherwise. The
    interval is the pivotal one for (alpha - 1), whose relative error does not depend on alpha for a pure power law.

    Returns:
        Lower and upper bound of alpha, and p: one more than the draws whose distance is at least that of the data, over
        one more than all draws, so that it is never 0 (Phipson and Smyth, arXiv 1603.05766). A small p speaks against a
        power law.
    """
    size = len(values)
    body = values[: size - tail.n]
    ratios, worse = [], 0
    for _ in range(draws):
        count = rng.binomial(size, tail.n / size) if len(body) else size
        above = tail.xmin * (1 - rng.random(count)) ** (-1 / (tail.alpha - 1))
        below = rng.choice(body, size - count) if count < size else body[:0]
        fit = fit_tail(np.sort(np.concatenate([below, above])), True, min_tail)
        if fit is not None:
            ratios.append((fit.alpha - 1) / (tail.alpha - 1))
            worse += fit.D >= tail.D
    if not ratios:
        return np.nan, np.nan, np.nan
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return 1 + (tail.alpha - 1) / float(high), 1 + (tail.alpha - 1) / float(low), (worse + 1) / (len(ratios) + 1)


def tail_distance(logs: np.ndarray, alpha: float, two_sided: bool) -> float:
    """Kolmogorov-Smirnov distance of ascending logarithms to the power law that starts at the first of them."""
    steps = np.arange(len(logs)) / len(logs)
    with np.errstate(invalid="ignore"):
        exponent = (1 - alpha) * (logs - logs[0])
    # An infinite alpha, of equal values, times no distance is no distance.
    gap = 1 - np.exp(np.where(logs == logs[0], 0.0, exponent)) - steps
    if two_sided:
        return float(max(gap.max(), (steps[1] - gap).max()))
    return float(np.abs(gap).max())


def _lower_bounds(
    logs: np.ndarray, alphas: np.ndarray, counts: np.ndarray, candidates: np.ndarray, two_sided: bool
) -> np.ndarray:
    """For each candidate, its distance taken at `PROBES` of its points only, which bounds it from below."""
    count = counts[candidates][:, None]
    offsets = np.floor(count * np.linspace(0, 1, PROBES, endpoint=False)).astype(int)
    gap = logs[candidates[:, None] + offsets] - logs[candidates][:, None]  # (candidates, probes)
    with np.errstate(invalid="ignore"):
        gap = 1 - np.exp((1 - alphas[candidates])[:, None] * gap) - offsets / count
    bounds = np.maximum(gap, 1 / count - gap) if two_sided else np.abs(gap)
    return np.nan_to_num(bounds, nan=0.0).max(axis=1)
