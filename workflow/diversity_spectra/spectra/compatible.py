"""The conventions of WeightWatcher 0.7.7, column by column; docs/spectra.md has the longer definitions.

Its constants and rules are kept even where they are questionable (absolute cut-offs, -1 for a failed fit): a table in
this convention is comparable with published ones.
"""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra import decompose, powerlaw
from diversity_spectra.spectra.kind import WEIGHTWATCHER, Measure, generator
from diversity_spectra.spectra.kinds.randomised import shannon_distance, shuffled
from diversity_spectra.spectra.matrices import View
from diversity_spectra.spectra.options import Options

POWER_LAW_CUT = 1e-5
WEAK_RANK_CUT = 1e-6
ENTROPY_OFFSET = 1e-10
SMALL_SAMPLE = 20
SMALL_SAMPLE_TAIL = 8
FEW_EIGENVALUES = 100
REPLICAS_OF_FEW = 5
BANDWIDTH = 0.1
GRID = 1000
SAFE_LOG_PRODUCT = 700.0
DENSITY_CUT = 0.01
EPSILON = np.finfo(np.float64).eps

# Columns that this convention alone has.
COLUMNS = {
    "status": Measure(
        "",
        meaning="`success` or `failed`: of the power-law fit",
        source="spectra.compatible.power_law",
        when=WEIGHTWATCHER,
    ),
    "weak_rank_loss": Measure(
        "count", meaning="number of λ < 1e-6", source="spectra.compatible.measures", when=WEIGHTWATCHER
    ),
    "W_scale": Measure(
        "1",
        meaning="√(n / Σλ): brings λ to mean 1",
        source="spectra.compatible.marchenko_pastur_fit",
        when="weightwatcher with `--mp`",
    ),
    "rand_W_scale": Measure(
        "1",
        meaning="the same, shuffled",
        source="spectra.compatible.marchenko_pastur_fit",
        when="weightwatcher with `--randomize`",
    ),
    "{detX_num,num_ERG_spikes}": Measure(
        "count",
        meaning="length of the tail whose product of λ, scaled to mean 1, first drops below 1",
        source="spectra.compatible.trace_log",
        when=WEIGHTWATCHER,
    ),
    "detX_val": Measure(
        "λ", meaning="the smallest λ of that tail", source="spectra.compatible.trace_log", when=WEIGHTWATCHER
    ),
    "ERG_gap": Measure(
        "count", meaning="detX_num - num_pl_spikes", source="spectra.compatible.measures", when=WEIGHTWATCHER
    ),
}


# A matrix of zeros gives infinite and undefined columns there as well.
@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def measures(
    values: np.ndarray,
    spectra: list[np.ndarray],
    parts: list[decompose.Combination],
    view: View,
    options: Options,
    names: tuple[str, str],
) -> dict:
    """All columns of the weightwatcher convention.

    Args:
        values: (n,) ascending eigenvalues of all slices, with WeightWatcher's factor for convolutions.
        spectra: the same, slice by slice.
        parts: the matrices of the slices, for the randomised control.
        view: N, M and number of kernel positions of the row.
        options: which of the optional columns are wanted.
        names: layer and matrix, from which the seed of the shuffles derives.
    """
    singular = [np.sqrt(part) for part in spectra]
    rank = _rank(np.sqrt(values), view.N)
    norm, largest = values.sum(), values[-1]
    p = values / norm + ENTROPY_OFFSET
    spectral_entropy = -(p * np.log(p)).sum() / np.log(rank + ENTROPY_OFFSET)
    row = {
        "sv_max": largest**0.5,
        # The largest of the smallest, over slices.
        "sv_min": max(part[0] for part in singular),
        "rank_loss": sum(len(part) - _rank(part, view.N) for part in singular),
        "weak_rank_loss": int(np.count_nonzero(values < WEAK_RANK_CUT)),
        "lambda_max": largest,
        "norm": norm,
        "log_norm": np.log10(norm),
        "spectral_norm": largest,
        "log_spectral_norm": np.log10(largest),
        "stable_rank": norm / largest,
        "matrix_rank": rank,
        "entropy": spectral_entropy,
    }
    row |= power_law(values) | trace_log(values)
    row["ERG_gap"] = row["detX_num"] - row["num_pl_spikes"]
    row["alpha_weighted"] = row["alpha"] * row["log_spectral_norm"]
    row["log_alpha_norm"] = np.log10((values ** row["alpha"]).sum())
    if options.mp:
        row |= marchenko_pastur_fit(values, view.N, view.M)
    if options.randomize:
        row |= _randomised(values, parts, view, generator(options.seed, *names, "shuffle"))
    return row


def power_law(values: np.ndarray) -> dict:
    """alpha, D, xmin, xmax, sigma, num_pl_spikes, status and warning of ascending eigenvalues."""
    kept = values[values > POWER_LAW_CUT]
    small = len(kept) < SMALL_SAMPLE
    tail = None
    if len(kept) >= 2:
        tail = powerlaw.fit_tail(kept, False, SMALL_SAMPLE_TAIL if small else 2, correction=int(small))
        if tail is None and small:
            tail = _whole_sample(kept)
    if tail is None:
        fit = {"alpha": -1.0, "D": -1.0, "xmin": -1.0, "xmax": np.nan, "sigma": -1.0, "num_pl_spikes": -1}
    else:
        count = int(np.count_nonzero(values >= tail.xmin))
        fit = {"alpha": tail.alpha, "D": tail.D, "xmin": tail.xmin, "xmax": kept[-1], "sigma": tail.sigma}
        fit["num_pl_spikes"] = count
    warning = "over-trained" if fit["alpha"] < 2 else "under-trained" if fit["alpha"] > 6 else ""
    return fit | {"status": "failed" if tail is None else "success", "warning": warning}


def _whole_sample(values: np.ndarray) -> powerlaw.Tail:
    """Its way out where no tail is long enough: all values. Its sigma is then that of alpha = 0."""
    size = len(values)
    alphas, _, sums = powerlaw.exponents(values, correction=1)
    alpha, distance = 0.0, 1.0
    if sums[0] > 1e-12:
        alpha = float(alphas[0])
        distance = powerlaw.tail_distance(np.log(values), alpha, two_sided=False)
    return powerlaw.Tail(alpha, float(values[0]), distance, -1 / size**0.5, size, float(sums[0]))


def trace_log(values: np.ndarray) -> dict:
    """Length of the tail at which the product of eigenvalues, scaled to mean 1, first drops below 1 from the top."""
    size = len(values)
    if not values[0] < values[-1]:
        return {"detX_num": 0, "num_ERG_spikes": 0, "detX_val": values[0] if values[0] else np.nan}
    scaled = values * (size / values.sum())
    with np.errstate(divide="ignore"):
        logs = np.log(scaled)
    if np.abs(logs).sum() < SAFE_LOG_PRODUCT:
        drops = np.cumsum(logs[::-1])[: size - 1] < 0
    else:
        # Its products start from the smallest value and may underflow to 0 on the way, which counts as below 1.
        drops = np.array([np.prod(scaled[index:]) < 1 for index in range(size - 1, 0, -1)])
    # The smallest eigenvalue is never reached by its loop.
    number, index = (int(drops.argmax()) + 1, size - 1 - int(drops.argmax())) if drops.any() else (size, 1)
    return {"detX_num": number, "num_ERG_spikes": number, "detX_val": values[index]}


def marchenko_pastur_fit(values: np.ndarray, N: int, M: int) -> dict:
    """Its fit of sigma to a kernel density of the eigenvalues scaled to mean 1; all columns -1 where it fails."""
    from scipy.optimize import brute

    Q = N / M
    scale = np.sqrt(len(values)) / np.sqrt(values.sum())
    scaled = scale**2 * values
    start = np.sqrt(scaled.max() / (1 + 1 / np.sqrt(Q)) ** 2)
    residual = _residual(np.sqrt(scaled) if Q == 1 else scaled, Q) if np.isfinite(scale) else None
    if residual is None:
        return dict.fromkeys(("num_spikes", "sigma_mp", "mp_softrank", "W_scale", "bulk_max", "bulk_min"), -1.0)
    # A grid, then scipy's simplex search from its best point, which is part of the definition.
    sigma = float(brute(residual, (slice(0.05 * start, 2 * start, 0.01 * start),))[0])
    high = (sigma * (1 + 1 / np.sqrt(Q))) ** 2
    low = (sigma * (1 - 1 / np.sqrt(Q))) ** 2
    margin = np.sqrt(1 / np.sqrt(Q) * high ** (2 / 3) * M ** (-2 / 3))
    return {
        "num_spikes": int(np.count_nonzero(scaled > high + margin)),
        "sigma_mp": sigma,
        "mp_softrank": high / scaled.max(),
        "W_scale": scale,
        "bulk_max": high / scale**2,
        "bulk_min": low / scale**2,
    }


def _residual(points: np.ndarray, Q: float):
    """The function of sigma that is minimised, or None where the density leaves nothing to fit."""
    x = np.linspace(0, points.max() + 0.5, GRID)
    y = linear_kernel_density(points, x, BANDWIDTH)
    kept = y > DENSITY_CUT
    x, y = x[kept], y[kept]
    if len(x) == 0:
        return None
    mode, last = x[np.argmax(y)], x[-1]

    def quarter_circle(sigma: np.ndarray) -> float:
        # Its support is fixed at 2 and only its height depends on sigma.
        law = np.sqrt(np.clip(4 - x**2, 0, None)) / (np.pi * sigma**2)
        return float(((law - y) ** 2).sum())

    def marchenko_pastur(sigma: np.ndarray) -> float:
        high, low = (sigma * (1 + np.sqrt(1 / Q))) ** 2, (sigma * (1 - np.sqrt(1 / Q))) ** 2
        if high < mode or high > last or low > mode:
            return 1e6 * len(y)
        with np.errstate(divide="ignore", invalid="ignore"):
            law = np.nan_to_num(np.sqrt((high - x) * (x - low)) / (2 * np.pi * sigma**2 * x / Q))
        return float(((law - y) ** 2).sum())

    return quarter_circle if Q == 1 else marchenko_pastur


def linear_kernel_density(points: np.ndarray, x: np.ndarray, bandwidth: float) -> np.ndarray:
    """Density at `x` of `points` (ascending) with a triangular kernel, by running sums over the points."""
    sums = np.concatenate([[0.0], np.cumsum(points)])

    def total(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, last = np.searchsorted(points, low), np.searchsorted(points, high)
        return last - first, sums[last] - sums[first]

    left_count, left_sum = total(x - bandwidth, x)
    right_count, right_sum = total(x, x + bandwidth)
    mass = left_count + right_count - (left_count * x - left_sum + right_sum - right_count * x) / bandwidth
    return np.clip(mass, 0, None) / (len(points) * bandwidth)


def _randomised(values, parts: list[decompose.Combination], view: View, rng: np.random.Generator) -> dict:
    """Its randomised control: the elements of each slice shuffled, once or five times, and once more for distances."""
    matrices = [part.full() for part in parts]

    def shuffle(replicas: int) -> np.ndarray:
        spectra, _ = decompose.eigenvalues([shuffled(matrix, rng) for _ in range(replicas) for matrix in matrices])
        return np.sort(np.concatenate(spectra)) * view.eigenvalue_factor

    first = shuffle(REPLICAS_OF_FEW if view.M * view.rf < FEW_EIGENVALUES else 1)
    second = shuffle(1)
    fit = marchenko_pastur_fit(first, view.N, view.M)
    return {
        "max_rand_eval": first[-1],
        "rand_distance": shannon_distance(values, second),
        "ww_softrank": second[-1] / values[-1],
        "ww_maxdist": values[-1] - second[-1],
        "num_traps": fit["num_spikes"],
        **{f"rand_{name}": value for name, value in fit.items()},
    }


def _rank(singular_values: np.ndarray, N: int) -> int:
    return int(np.count_nonzero(singular_values > singular_values.max() * N * EPSILON))
