"""Inner products, lengths and cosines of shifts, free of the bias that shared and finite runs bring.

Shifts of two conditions from one baseline contain the same baseline noise, so their plain inner product is too large
on average by tr(S_0) / n_0, and the plain squared length of each by tr(S_c) / n_c + tr(S_0) / n_0. Cross-fitting takes
each factor of a product from other runs. Averaged over all ways of splitting the runs into two parts, the cross-fitted
product is a U-statistic with a closed form: products of different conditions stay, and a condition's product with
itself becomes the mean of y_i . y_j over pairs of distinct runs, which is |mean|^2 - tr(S) / n (Hoeffding 1948, doi
10.1214/aoms/1177730196). That form is used here: exact, and the same for conditions, families and paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from diversity_spectra.compare.noise import Noise, effective_dimension

CHUNK = 20


@dataclass(frozen=True)
class Shifts:
    """Cross-fitted geometry of the shifts of conditions 1..C from the baseline, in noise standard deviations.

    vectors (C, features): plain shifts. plain, unbiased (C, C): their inner products, plain and cross-fitted.
    n (C,): runs; n_baseline. cross, square (draws, C, C): simulated sampling noise zeta of the shifts: vectors . zeta,
    and zeta . zeta less the part that cross-fitting takes out of it.
    """

    vectors: np.ndarray
    plain: np.ndarray
    unbiased: np.ndarray
    n: np.ndarray
    n_baseline: int
    spread: np.ndarray
    excess: np.ndarray
    metric: np.ndarray
    cross: np.ndarray
    square: np.ndarray

    def draws(self) -> np.ndarray:
        """(draws, C, C): what `unbiased` could have been, from the simulated experiments around it."""
        return self.unbiased + (self.metric - self.plain) + self.cross + self.cross.transpose(0, 2, 1) + self.square

    def combine(self, weights: np.ndarray) -> Shifts:
        """The same for linear combinations of the shifts, weights (K, C)."""
        metric, cross, square = (weights @ drawn @ weights.T for drawn in (self.metric, self.cross, self.square))
        plain, unbiased, spread, excess = (
            weights @ matrix @ weights.T for matrix in (self.plain, self.unbiased, self.spread, self.excess)
        )
        n = np.abs(weights) @ self.n
        return Shifts(
            weights @ self.vectors, plain, unbiased, n, self.n_baseline, spread, excess, metric, cross, square
        )


def shifts(values: np.ndarray, group: np.ndarray, noise: Noise, draws: int, rng: np.random.Generator) -> Shifts:
    """Geometry of the shifts of standardised values (runs, features); group 0 is the baseline.

    A condition of a single run has no variance of its own: the pooled one stands in.
    """
    groups = int(group.max()) + 1
    n = np.bincount(group, minlength=groups)
    mean = np.stack([values[group == index].mean(axis=0) for index in range(groups)])
    residuals = values - mean[group]
    trace = np.bincount(group, weights=(residuals**2).sum(axis=1), minlength=groups) / np.maximum(n - 1, 1)
    trace = np.where(n > 1, trace, values.shape[1])
    vectors = mean[1:] - mean[0]
    plain = vectors @ vectors.T
    shared = trace / n
    unbiased = plain - shared[0] - np.diag(shared[1:])
    inflate = np.sqrt(n / np.maximum(n - 1, 1) / noise.factor)
    pool = (residuals * inflate[group, None])[n[group] > 1]
    projected = vectors @ pool.T
    spread = projected @ projected.T / max(len(pool), 1)
    trace_square = values.shape[1] ** 2 / effective_dimension(residuals, noise.df)
    share = noise.factor / n
    excess = trace_square * (share[0] + np.diag(share[1:]))
    simulated = _simulate(vectors, pool, n, noise, draws, rng)
    return Shifts(vectors, plain, unbiased, n[1:], int(n[0]), spread, excess, *simulated)


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosines (K, K) from inner products (K, K), cut to [-1, 1]; NaN where a squared length is not positive."""
    length = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), np.nan))
    return np.clip(gram / np.outer(length, length), -1, 1)


def cosine_intervals(shift: Shifts, pairs: np.ndarray, level: float, steps: int = 81) -> np.ndarray:
    """Intervals (pairs, 2) of the true cosine of pairs (pairs, 2) of shifts: every value that the data do not reject.

    For each value rho on a grid over [-1, 1], worlds are simulated whose two true shifts have the estimated lengths and
    cosine rho, in the plane of the two observed shifts. rho is kept if T = I - rho * sqrt(L_a * L_b), with the
    cross-fitted inner product I and squared lengths L, lies between the quantiles of T in those worlds (grid bootstrap:
    Hansen 1999, doi 10.1162/003465399558463). T has no denominator, so weak shifts give wide intervals, not wild ones.
    [-1, 1] where a length is not identifiable.
    """
    a, b = pairs.T
    length = np.sqrt(np.maximum(np.diag(shift.unbiased), 0.0))
    plain = np.sqrt(np.diag(shift.plain))
    result = np.tile([-1.0, 1.0], (len(pairs), 1))
    known = (length[a] > 0) & (length[b] > 0)
    if not known.any():
        return result
    a, b = a[known], b[known]
    # Orthonormal directions in the plane: half sum and half difference of the two unit vectors.
    cosine = np.clip(shift.plain[a, b] / (plain[a] * plain[b]), -1 + 1e-9, 1 - 1e-9)
    along, across = np.sqrt(2 + 2 * cosine), np.sqrt(2 - 2 * cosine)

    def project(which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_a = shift.cross[:, a, which] / plain[a]
        of_b = shift.cross[:, b, which] / plain[b]
        return (of_a + of_b) / along, (of_a - of_b) / across

    (sum_a, difference_a), (sum_b, difference_b) = project(a), project(b)
    # Noise variance along the two directions, and the unbiased one along each true shift. An observed shift contains
    # noise, which points where noise is large, so the variance along it is exaggerated: `damp` takes that back.
    spread_a, spread_b = (shift.spread[which, which] / plain[which] ** 2 for which in (a, b))
    spread_ab = shift.spread[a, b] / (plain[a] * plain[b])
    variance = (spread_a + spread_b + 2 * spread_ab) / along**2, (spread_a + spread_b - 2 * spread_ab) / across**2
    covariance = (spread_a - spread_b) / (along * across)
    aim_a, aim_b = (np.diag(shift.spread - shift.excess)[which] / length[which] ** 2 for which in (a, b))
    own_a, own_b = (shift.metric[:, which, which] / plain[which] ** 2 for which in (a, b))
    own_ab = shift.metric[:, a, b] / (plain[a] * plain[b])
    sum_sum, difference_difference = (own_a + own_b + 2 * own_ab) / along**2, (own_a + own_b - 2 * own_ab) / across**2
    sum_difference = (own_a - own_b) / (along * across)
    square = shift.square[:, a, b], shift.square[:, a, a], shift.square[:, b, b]
    inner = shift.unbiased[a, b]
    size_a, size_b = length[a], length[b]
    grid = np.linspace(-1, 1, steps)
    below = np.empty((steps, len(a)))
    for index, rho in enumerate(grid):
        half = np.sqrt((1 + rho) / 2), np.sqrt((1 - rho) / 2)
        common = half[0] ** 2 * variance[0] + half[1] ** 2 * variance[1]
        mixed = 2 * half[0] * half[1] * covariance
        true_a = size_a * np.sqrt(np.clip(aim_a / (common + mixed), 0.04, 1.0))
        true_b = size_b * np.sqrt(np.clip(aim_b / (common - mixed), 0.04, 1.0))
        true_a_noise_a = true_a * (half[0] * sum_a + half[1] * difference_a)
        true_a_noise_b = true_a * (half[0] * sum_b + half[1] * difference_b)
        true_b_noise_a = true_b * (half[0] * sum_a - half[1] * difference_a)
        true_b_noise_b = true_b * (half[0] * sum_b - half[1] * difference_b)
        part, rest = half[0] ** 2 * sum_sum, half[1] ** 2 * difference_difference
        turn = 2 * half[0] * half[1] * sum_difference
        drawn_inner = size_a * size_b * (part - rest) + true_a_noise_b + true_b_noise_a + square[0]
        drawn_a = np.maximum(size_a**2 * (part + rest + turn) + 2 * true_a_noise_a + square[1], 0.0)
        drawn_b = np.maximum(size_b**2 * (part + rest - turn) + 2 * true_b_noise_b + square[2], 0.0)
        observed = inner - rho * size_a * size_b
        below[index] = (drawn_inner - rho * np.sqrt(drawn_a * drawn_b) <= observed).mean(axis=0)
    result[known] = np.column_stack([_crossing(grid, below, 1 - level / 2), _crossing(grid, below, level / 2)])
    return result


def permutation_p(
    own: np.ndarray, baseline: np.ndarray, targets: np.ndarray, permutations: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Test that runs own (n, features) are exchangeable with baseline runs (n_0, features).

    Returns p (targets + 1,) and the smallest p these runs could give. The first p is of the cross-fitted squared length
    of the shift (one-sided), the others of its cross-fitted inner product with mean vectors targets (T, features)
    (two-sided); targets are means of other runs on the same scale as own, not yet less the baseline. All orders are
    gone through where there are at most `permutations`, else a random sample of them is, the observed one included
    (Phipson & Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    runs = np.concatenate([own, baseline])
    runs, targets = runs - baseline.mean(axis=0), targets - baseline.mean(axis=0)
    orders = comb(len(runs), len(own))
    if orders <= permutations:
        chosen = np.array(list(combinations(range(len(runs)), len(own))))
    else:
        shuffled = rng.permuted(np.tile(np.arange(len(runs)), (permutations - 1, 1)), axis=1)[:, : len(own)]
        chosen = np.concatenate([np.arange(len(own))[None], shuffled])
    member = np.zeros((len(chosen), len(runs)))
    np.put_along_axis(member, chosen, 1.0, axis=1)
    own_mean, own_trace = _split_mean(member, runs)
    rest_mean, rest_trace = _split_mean(1 - member, runs)
    shift = own_mean - rest_mean
    length = (shift**2).sum(axis=1) - own_trace - rest_trace
    inner = shift @ targets.T - (shift * rest_mean).sum(axis=1)[:, None] - rest_trace[:, None]
    statistic = np.column_stack([length, np.abs(inner)])
    tolerance = 1e-9 * np.abs(statistic).max(axis=0)
    return (statistic >= statistic[0] - tolerance).mean(axis=0), 1 / len(chosen)


def permutation_omnibus(values: np.ndarray, group: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
    """p of the sum of cross-fitted squared lengths of all groups 1.. from group 0: does any of them do anything?

    values (runs, features); labels are permuted over all runs.
    """
    groups = int(group.max()) + 1
    values = values - values.mean(axis=0)
    labels = np.concatenate([group[None], rng.permuted(np.tile(group, (permutations - 1, 1)), axis=1)])
    means, traces = zip(*[_split_mean((labels == index).astype(float), values) for index in range(groups)], strict=True)
    total = sum(((means[k] - means[0]) ** 2).sum(axis=1) - traces[k] - traces[0] for k in range(1, groups))
    return float((total >= total[0] - 1e-9 * np.abs(total).max()).mean())


def _split_mean(member: np.ndarray, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (orders, features) of the member runs and tr(S) / n (orders,), 0 for a single run."""
    n = member.sum(axis=1)
    mean = member @ runs / n[:, None]
    scatter = member @ (runs**2).sum(axis=1) - n * (mean**2).sum(axis=1)
    return mean, scatter / np.maximum(n - 1, 1) / n


def _simulate(
    vectors: np.ndarray, pool: np.ndarray, n: np.ndarray, noise: Noise, draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the runs of every condition from the pooled residuals: `metric`, `cross` and `square` of `Shifts`.

    pool (residuals, features): inflated by sqrt(n / (n - 1)) to undo the fit of the mean and brought to one variance by
    the conditions' factors. Every simulated experiment is divided by its own pooled standard deviations, as the
    measured one is, shrinkage and all: the units themselves are estimates.
    """
    groups, factor = len(n), noise.factor
    shape = (draws if len(pool) else 0, groups - 1, groups - 1)
    metric, cross, square = np.empty(shape), np.empty(shape), np.empty(shape)
    variance = (pool**2).mean(axis=0)  # not 1 where variances were shrunk
    owner = np.repeat(np.arange(groups), n)
    df = np.maximum(n - 1, 1)
    for start in range(0, shape[0], CHUNK):
        size = min(CHUNK, draws - start)
        picked = rng.integers(len(pool), size=(size, len(owner)))
        count = np.zeros((size, groups, len(pool)))
        np.add.at(count, (np.arange(size)[:, None], owner, picked), 1.0)
        mean = count @ pool / n[:, None]
        # Sums of squares within conditions, by feature; a single run has none.
        scatter = count.sum(axis=1) @ pool**2 - (n[:, None] * mean**2).sum(axis=1)
        logs = np.log(np.maximum(scatter / (n - 1).sum(), 1e-12) / variance)
        weight = np.exp(-logs @ noise.smoother.T)
        trace = (count @ pool**2 - n[:, None] * mean**2) * weight[:, None]
        trace = trace.sum(axis=2) / df * factor / n
        # A single run's own trace cannot be drawn: the pooled one stands in.
        trace = np.where(n > 1, trace, (weight * variance).sum(axis=1)[:, None] / n)
        zeta = mean * np.sqrt(factor)[:, None]
        zeta = (zeta[:, 1:] - zeta[:, :1]) * np.sqrt(weight)[:, None]
        scaled = vectors * np.sqrt(weight)[:, None]
        part = slice(start, start + size)
        metric[part] = scaled @ scaled.transpose(0, 2, 1)
        cross[part] = scaled @ zeta.transpose(0, 2, 1)
        square[part] = zeta @ zeta.transpose(0, 2, 1) - trace[:, :1, None]
        square[part] -= trace[:, 1:, None] * np.eye(groups - 1)
    return metric, cross, square


def _crossing(grid: np.ndarray, below: np.ndarray, level: float) -> np.ndarray:
    """Where `below` (grid, pairs), made monotone, falls through level: linear in between, the grid's end if nowhere."""
    falling = np.minimum.accumulate(below, axis=0)
    last = np.clip((falling > level).sum(axis=0) - 1, 0, len(grid) - 2)
    pair = np.arange(below.shape[1])
    high, low = falling[last, pair], falling[last + 1, pair]
    share = np.clip((high - level) / np.where(high > low, high - low, np.inf), 0, 1)
    share = np.where(low > level, 1.0, share)
    return grid[last] + share * (grid[1] - grid[0])
