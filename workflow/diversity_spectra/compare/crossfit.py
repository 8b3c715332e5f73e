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

CHUNK = 20  # simulated experiments at a time: bounds the memory
STEPS = 81  # of the grid of cosines: 0.025 apart, with a linear course between them
LEAST_SHARE = 0.04  # of the variance along a shift that is left where its unbiased estimate is smaller, or negative
MOST_SHARED = 0.95  # of the noise, that runs of one seed may have in common
PARALLEL = 1e-9  # from 1 or -1: closer cosines of observed shifts span no plane


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


@dataclass(frozen=True)
class Seeds:
    """Which runs have a seed in common, and so the initial weights and the order of the data, in part.

    run (seeds, runs), condition (seeds, conditions): 1 where the seed's. overlap (conditions, conditions): seeds in common
    over the product of the numbers of runs, 0 on the diagonal.
    """

    run: np.ndarray
    condition: np.ndarray
    overlap: np.ndarray
    pairs: float

    @classmethod
    def of(cls, seed: np.ndarray, group: np.ndarray) -> Seeds:
        """seed (runs,): a label for each run, of which no condition has two equal ones."""
        # In the order in which they come, so that no draw depends on what they are called.
        labels = seed[np.sort(np.unique(seed, return_index=True)[1])]
        run = (seed == labels[:, None]).astype(float)
        condition = run @ np.eye(group.max() + 1)[group]
        n = condition.sum(axis=0)
        common = (condition.T @ condition) * (1 - np.eye(len(n)))
        # Of a pair's residuals at one seed, which lack their conditions' means, so much of the common variance is left.
        left = common * (1 - 1 / n - 1 / n[:, None] + common / np.outer(n, n))
        return cls(run, condition, common / np.outer(n, n), float(left.sum()))

    def common(self, residuals: np.ndarray) -> np.ndarray:
        """Unbiased trace (...,) of the noise that runs of one seed share, from residuals (..., runs, features)."""
        if not self.pairs > 0:
            return np.zeros(residuals.shape[:-2])
        return (((self.run @ residuals) ** 2).sum(axis=(-1, -2)) - (residuals**2).sum(axis=(-1, -2))) / self.pairs

    def of_shifts(self, own: np.ndarray, common: np.ndarray) -> np.ndarray:
        """Traces (..., C, C) of the noise's covariances in shifts, from those of the means, own (..., C + 1), and common."""
        means = common[..., None, None] * self.overlap + own[..., None] * np.eye(own.shape[-1])
        return means[..., 1:, 1:] - means[..., 1:, :1] - means[..., :1, 1:] + means[..., :1, :1]


def shifts(
    values: np.ndarray, group: np.ndarray, noise: Noise, draws: int, rng: np.random.Generator,
    seed: np.ndarray | None = None,
) -> Shifts:  # fmt: skip
    """Geometry of the shifts of standardised values (runs, features); group (runs,) ascends, 0 is the baseline.

    seed (runs,): runs of different conditions with the same one may have noise in common; None: no two have. A condition
    of a single run has no variance of its own: the pooled one stands in.
    """
    seeds = Seeds.of(np.arange(len(group)) if seed is None else seed, group)
    n = np.bincount(group)
    mean, residuals, trace, common = _within(values, group, seeds)
    vectors = mean[1:] - mean[0]
    plain = vectors @ vectors.T
    unbiased = plain - seeds.of_shifts(trace / n, common)
    share = np.clip(common / np.average(trace, weights=n), 0.0, MOST_SHARED)
    inflate = np.sqrt(n / np.maximum(n - 1, 1) / noise.factor)
    pool = (residuals * inflate[group, None])[n[group] > 1]
    projected = vectors @ pool.T
    spread = projected @ projected.T / max(len(pool), 1)
    trace_square = values.shape[1] ** 2 / effective_dimension(residuals, noise.df)
    excess = trace_square * seeds.of_shifts(noise.factor / n, share)
    simulated = _simulate(vectors, pool, n, noise, seeds, float(share), draws, rng)
    return Shifts(vectors, plain, unbiased, n[1:], int(n[0]), spread, excess, *simulated)


def unbiased_products(values: np.ndarray, group: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """`unbiased` of `shifts` alone."""
    seeds = Seeds.of(seed, group)
    mean, _, trace, common = _within(values, group, seeds)
    vectors = mean[1:] - mean[0]
    return vectors @ vectors.T - seeds.of_shifts(trace / np.bincount(group), common)


def _within(
    values: np.ndarray, group: np.ndarray, seeds: Seeds
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means (C + 1, features), residuals (runs, features), their traces (C + 1,), and that of what seeds share."""
    n = np.bincount(group)
    mean = np.stack([values[group == index].mean(axis=0) for index in range(len(n))])
    residuals = values - mean[group]
    trace = np.bincount(group, weights=(residuals**2).sum(axis=1)) / np.maximum(n - 1, 1)
    return mean, residuals, np.where(n > 1, trace, values.shape[1]), seeds.common(residuals)


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosines (K, K) from inner products (K, K), cut to [-1, 1]; NaN where a squared length is not positive."""
    length = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), np.nan))
    return np.clip(gram / np.outer(length, length), -1, 1)


def cosine_intervals(shift: Shifts, pairs: np.ndarray, level: float, steps: int = STEPS) -> np.ndarray:
    """Intervals (pairs, 2) of the true cosine of pairs (pairs, 2) of shifts: every value that the data do not reject.

    For each value rho on a grid over [-1, 1], worlds are simulated whose two true shifts have the estimated lengths and
    cosine rho, in the plane of the two observed shifts. rho is kept if T = I - rho * sqrt(L_a * L_b), with the
    cross-fitted inner product I and squared lengths L, lies between the quantiles of T in those worlds (grid bootstrap:
    Hansen 1999, doi 10.1162/003465399558463). T has no denominator, so weak shifts give wide intervals, not wild ones.
    [-1, 1] where a length is not identifiable.
    """
    result = np.tile([-1.0, 1.0], (len(pairs), 1))
    known = (np.diag(shift.unbiased) > 0)[pairs].all(axis=1)
    if not known.any():
        return result
    grid = np.linspace(-1, 1, steps)
    below = _worlds(shift, *pairs[known].T).shares_below(grid)
    result[known] = np.column_stack([_crossing(grid, below, 1 - level / 2), _crossing(grid, below, level / 2)])
    return result


# Products of two vectors with themselves and with each other: (of the first, of the second, of both).
Products = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plane:
    """The planes of pairs of observed shifts, each with two orthonormal axes.

    The axes are the sum and the difference of the shifts' unit vectors u_a and u_b, divided by their lengths: `along` and
    `across` (pairs,).
    """

    along: np.ndarray
    across: np.ndarray

    @classmethod
    def of(cls, cosine: np.ndarray) -> Plane:
        """From the cosines (pairs,) of the observed shifts: |u_a +- u_b|^2 = 2 +- 2 cosine. Parallel ones span none."""
        cosine = np.clip(cosine, -1 + PARALLEL, 1 - PARALLEL)
        return cls(np.sqrt(2 + 2 * cosine), np.sqrt(2 - 2 * cosine))

    def vector(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of a vector from its inner products with u_a and u_b."""
        return (a + b) / self.along, (a - b) / self.across

    def form(self, a: np.ndarray, b: np.ndarray, ab: np.ndarray) -> Products:
        """A quadratic form on the axes, from its values on u_a and u_b."""
        first, second = (a + b + 2 * ab) / self.along**2, (a + b - 2 * ab) / self.across**2
        return first, second, (a - b) / (self.along * self.across)


@dataclass(frozen=True)
class Worlds:
    """Experiments simulated around pairs of shifts a and b with any true cosine; docs/method.md, section 6.

    Arrays are (pairs,), or (draws, pairs) where they are drawn. length_a, length_b: of the true shifts. inner: observed,
    cross-fitted. On the axes of the plane: the noise's variance `spread`, the products `metric` in the units of each
    simulated experiment, and its noise `noise_a`, `noise_b` in each shift. aim_a, aim_b: unbiased variance of the noise
    along each true shift. square: products of the noise with itself, less the part that cross-fitting takes out.
    """

    length_a: np.ndarray
    length_b: np.ndarray
    inner: np.ndarray
    spread: Products
    metric: Products
    noise_a: tuple[np.ndarray, np.ndarray]
    noise_b: tuple[np.ndarray, np.ndarray]
    aim_a: np.ndarray
    aim_b: np.ndarray
    square: Products

    def shares_below(self, grid: np.ndarray) -> np.ndarray:
        """Shares (grid, pairs) of the worlds with each true cosine whose T is no larger than the observed one."""
        below = np.empty((len(grid), len(self.inner)))
        for index, rho in enumerate(grid):
            # The true shifts lie on either side of the first axis, at half their angle: its cosine and sine.
            cosine, sine = half = np.sqrt((1 + rho) / 2), np.sqrt((1 - rho) / 2)
            spread_a, spread_b, _ = _on_true_shifts(self.spread, half)
            metric_a, metric_b, metric_ab = _on_true_shifts(self.metric, half)
            # An observed shift contains noise, which points where noise is large, so the variance along it is exaggerated.
            with np.errstate(divide="ignore"):  # where there is no noise along a shift nothing is damped
                damped_a = self.length_a * np.sqrt(np.clip(self.aim_a / spread_a, LEAST_SHARE, 1.0))
                damped_b = self.length_b * np.sqrt(np.clip(self.aim_b / spread_b, LEAST_SHARE, 1.0))
            # Inner products of a true shift with the noise in a shift.
            a_a, a_b = (damped_a * (cosine * first + sine * second) for first, second in (self.noise_a, self.noise_b))
            b_a, b_b = (damped_b * (cosine * first - sine * second) for first, second in (self.noise_a, self.noise_b))
            square_a, square_b, square_ab = self.square
            inner = self.length_a * self.length_b * metric_ab + a_b + b_a + square_ab
            squared_a = np.maximum(self.length_a**2 * metric_a + 2 * a_a + square_a, 0.0)
            squared_b = np.maximum(self.length_b**2 * metric_b + 2 * b_b + square_b, 0.0)
            observed = self.inner - rho * self.length_a * self.length_b
            below[index] = (inner - rho * np.sqrt(squared_a * squared_b) <= observed).mean(axis=0)
        return below


def _worlds(shift: Shifts, a: np.ndarray, b: np.ndarray) -> Worlds:
    """Of the pairs of shifts a (pairs,) and b (pairs,), whose lengths are identifiable."""
    length, plain = np.sqrt(np.maximum(np.diag(shift.unbiased), 0.0)), np.sqrt(np.diag(shift.plain))
    plane = Plane.of(shift.plain[a, b] / (plain[a] * plain[b]))

    def form(matrix: np.ndarray) -> Products:
        """On the axes of the plane, from inner products (..., C, C) of plain shifts."""
        own_a, own_b = (matrix[..., which, which] / plain[which] ** 2 for which in (a, b))
        return plane.form(own_a, own_b, matrix[..., a, b] / (plain[a] * plain[b]))

    noise_a, noise_b = (
        plane.vector(shift.cross[:, a, which] / plain[a], shift.cross[:, b, which] / plain[b]) for which in (a, b)
    )
    aim_a, aim_b = (np.diag(shift.spread - shift.excess)[which] / length[which] ** 2 for which in (a, b))
    return Worlds(
        length_a=length[a],
        length_b=length[b],
        inner=shift.unbiased[a, b],
        spread=form(shift.spread),
        metric=form(shift.metric),
        noise_a=noise_a,
        noise_b=noise_b,
        aim_a=aim_a,
        aim_b=aim_b,
        square=(shift.square[:, a, a], shift.square[:, b, b], shift.square[:, a, b]),
    )


def _on_true_shifts(form: Products, half: tuple[float, float]) -> Products:
    """A quadratic form, given on the axes, on the unit vectors of the two true shifts. half: cosine and sine."""
    cosine, sine = half
    part, rest, turn = cosine**2 * form[0], sine**2 * form[1], 2 * cosine * sine * form[2]
    return part + rest + turn, part + rest - turn, part - rest


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


def permutation_omnibus(
    values: np.ndarray, group: np.ndarray, permutations: int, rng: np.random.Generator, block: np.ndarray | None = None
) -> float:
    """p of the sum of cross-fitted squared lengths of all groups 1.. from group 0: does any of them do anything?

    values (runs, features); labels are permuted within each block (runs,), or over all runs.
    """
    block = np.zeros(len(group)) if block is None else np.unique(block, return_inverse=True)[1]
    shuffled = np.argsort(block + rng.random((permutations - 1, len(group))), axis=1)
    labels = np.tile(group, (permutations, 1))
    labels[1:, np.argsort(block, kind="stable")] = group[shuffled]
    groups = int(group.max()) + 1
    values = values - values.mean(axis=0)
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
    vectors: np.ndarray, pool: np.ndarray, n: np.ndarray, noise: Noise, seeds: Seeds, share: float, draws: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Draw the runs of every condition from the pooled residuals: `metric`, `cross` and `square` of `Shifts`.

    pool (residuals, features): inflated by sqrt(n / (n - 1)) to undo the fit of the mean and brought to one variance by
    the conditions' factors. share: of the noise that runs of one seed have in common, drawn once for them. Every simulated
    experiment is divided by its own pooled standard deviations, as the measured one is, shrinkage and all: the units
    themselves are estimates.
    """
    groups, factor = len(n), noise.factor
    shape = (draws if len(pool) else 0, groups - 1, groups - 1)
    metric, cross, square = np.empty(shape), np.empty(shape), np.empty(shape)
    variance = (pool**2).mean(axis=0)  # not 1 where variances were shrunk
    owner = np.repeat(np.arange(groups), n)
    member = (owner == np.arange(groups)[:, None]).astype(float)
    df = np.maximum(n - 1, 1)
    for start in range(0, shape[0], CHUNK):
        size = min(CHUNK, draws - start)
        runs = np.sqrt(1 - share) * pool[rng.integers(len(pool), size=(size, len(owner)))]
        if share:
            common = pool[rng.integers(len(pool), size=(size, len(seeds.run)))]
            runs += np.sqrt(share) * (seeds.run.T @ common)
        mean = member @ runs / n[:, None]
        residuals = runs - mean[:, owner]
        # Sums of squares within conditions, by feature; a single run has none.
        square_of = member @ residuals**2
        scatter = square_of.sum(axis=1)
        logs = np.log(np.maximum(scatter / (n - 1).sum(), 1e-12) / variance)
        weight = np.exp(-noise.shrunk(logs))
        trace = (square_of * weight[:, None]).sum(axis=2) / df * factor / n
        # A single run's own trace cannot be drawn: the pooled one stands in.
        trace = np.where(n > 1, trace, (weight * variance).sum(axis=1)[:, None] / n)
        zeta = mean * np.sqrt(factor)[:, None]
        zeta = (zeta[:, 1:] - zeta[:, :1]) * np.sqrt(weight)[:, None]
        scaled = vectors * np.sqrt(weight)[:, None]
        part = slice(start, start + size)
        metric[part] = scaled @ scaled.transpose(0, 2, 1)
        cross[part] = scaled @ zeta.transpose(0, 2, 1)
        shared = seeds.common(residuals * np.sqrt(factor[owner])[:, None] * np.sqrt(weight)[:, None])
        square[part] = zeta @ zeta.transpose(0, 2, 1) - seeds.of_shifts(trace, shared)
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
