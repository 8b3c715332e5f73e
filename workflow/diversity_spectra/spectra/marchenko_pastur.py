"""The Marchenko-Pastur law of random matrices: bulk edge, spikes, soft rank.

For an (N, M) matrix with independent entries of variance s^2, N >= M, the eigenvalues of W^T W fill
s^2 (sqrt(N) - sqrt(M))^2 .. s^2 (sqrt(N) + sqrt(M))^2 (Marchenko and Pastur, 1967).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# 99 % quantile of the Tracy-Widom law of order 1: a random matrix has a "spike" in one of a hundred cases.
TRACY_WIDOM_99 = 2.0234
MAX_ROUNDS = 50


@dataclass(frozen=True)
class Bulk:
    """The random part of a spectrum.

    Attributes:
        sigma: standard deviation of one matrix entry.
        low, high: edges of the bulk, in units of the eigenvalues.
        spike_edge: `high` plus the Tracy-Widom margin; eigenvalues above are spikes.
        spikes: their number.
        distance: Kolmogorov-Smirnov distance of the eigenvalues that are no spikes to the law.
    """

    sigma: float
    low: float
    high: float
    spike_edge: float
    spikes: int
    distance: float


@lru_cache(maxsize=512)
def standard_law(ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and distribution function of the law at M / N = `ratio` <= 1, entries of variance 1 / N.

    With x = 1 + y + 2 sqrt(y) cos t the density is 2 sin(t)^2 / (pi x) dt: smooth, so the trapezoidal rule is exact
    to rounding.
    """
    angle = np.linspace(np.pi, 0, 2001)
    x = 1 + ratio + 2 * np.sqrt(ratio) * np.cos(angle)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = 2 * np.sin(angle) ** 2 / (np.pi * x)
    # At ratio 1 and x = 0 the quotient is 0 / 0 with limit 2 / pi.
    density = np.where(x > 1e-12, density, 2 / np.pi if ratio == 1 else 0.0)
    steps = (density[1:] + density[:-1]) / 2 * np.pi / 2000
    cdf = np.concatenate([[0.0], np.cumsum(steps)])
    return x, cdf / cdf[-1]


def fit_bulk(values: np.ndarray, N: int, M: int) -> Bulk:
    """Fit the variance by the median of the eigenvalues that are no spikes, and count the spikes.

    The median resists spikes (Gavish and Donoho, 2014, arXiv 1305.5870, section III.E); the spikes found are then set
    aside, and the rest taken for the spectrum of a matrix smaller by their number, until nothing changes. The margin
    is that of Johnstone (Annals of Statistics 29, 2001) with the centring of Ma (Bernoulli 18, 2012).

    Args:
        values: (n,) ascending eigenvalues of one or several pooled (N, M) matrices; n is a multiple of M, or less
            where zeros were left out.
    """
    spikes = 0
    copies = max(1, round(len(values) / M))
    for _ in range(MAX_ROUNDS):
        rank_one = min(spikes // copies, M - 1)
        rows, columns = N - rank_one, M - rank_one
        x, cdf = standard_law(columns / rows)
        bulk = values[: len(values) - spikes]
        variance = np.median(bulk) / (rows * np.interp(0.5, cdf, x))
        center = np.sqrt(rows - 0.5) + np.sqrt(columns - 0.5)
        margin = center * (1 / np.sqrt(rows - 0.5) + 1 / np.sqrt(columns - 0.5)) ** (1 / 3) * TRACY_WIDOM_99
        spike_edge = variance * (center**2 + margin)
        found = int(np.count_nonzero(values > spike_edge))
        # Spikes are only added: a count that went back and forth would never end. Half is the median's limit.
        if found <= spikes or found >= len(values) // 2:
            break
        spikes = found
    high = variance * (np.sqrt(rows) + np.sqrt(columns)) ** 2
    low = variance * (np.sqrt(rows) - np.sqrt(columns)) ** 2
    law = np.interp(bulk / (variance * rows), x, cdf)
    steps = np.arange(len(bulk)) / len(bulk)
    distance = float(max((law - steps).max(), (steps + 1 / len(bulk) - law).max()))
    return Bulk(float(np.sqrt(variance)), float(low), float(high), float(spike_edge), found, distance)


def density(x: np.ndarray, sigma: float, N: int, M: int) -> np.ndarray:
    """Density of the eigenvalues of W^T W at `x`, for entries of standard deviation `sigma`."""
    scale, ratio = sigma**2 * N, M / N
    low, high = scale * (1 - np.sqrt(ratio)) ** 2, scale * (1 + np.sqrt(ratio)) ** 2
    inside = np.clip((high - x) * (x - low), 0, None)
    return np.sqrt(inside) / (2 * np.pi * ratio * scale * np.maximum(x, 1e-300))
