"""The random part of a spectrum: the Marchenko-Pastur law for rows and columns of unequal scale.

For an (N, M) matrix X_ij = sqrt(r_i c_j) Z_ij with independent Z of variance 1, the eigenvalues of X^T X follow a law
that depends on r and c alone (Girko, 1990; Couillet and Hachem, arXiv 1310.8094; Paul and Silverstein, J. Multivariate
Analysis 100, 2009). With r = c = 1 it is that of Marchenko and Pastur (1967). With a, b the traces of C and R times the
resolvents, of opposite sign, it is given by

    b z = F(a) = sum_i r_i / (1 - a r_i),    a z = G(b) = sum_j c_j / (1 - b c_j).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# 99 % quantile of the Tracy-Widom law of order 1: a random matrix has a "spike" in one of a hundred cases.
TRACY_WIDOM_99 = 2.0234
# Steps from far above the real axis down to it. Where that is too coarse for Newton's method, the residual shows it.
LEVELS, FINE_LEVELS, RESIDUAL = 16, 80, 1e-8
# Quantiles of the bulk at which the law is computed, denser at the ends.
GRID = np.concatenate([[0.0, 0.01, 0.02, 0.035], np.linspace(0.05, 0.95, 21), [0.965, 0.98, 0.99, 1.0]])
# The scale is matched over the middle of the bulk, away from rank deficiency below and from weak spikes above.
MIDDLE = np.linspace(0.1, 0.5, 9)
MAX_ROUNDS = 50
SHOULDER = 0.1


@dataclass(frozen=True)
class Law:
    """Law of the eigenvalues of X^T X, rows of variance r_i and columns of c_j, as (value, number of) pairs.

    Attributes:
        rows, row_counts: (k,) variances r and how many rows (of N) have each.
        columns, column_counts: (l,) the same of columns, M in all.
    """

    rows: np.ndarray
    row_counts: np.ndarray
    columns: np.ndarray
    column_counts: np.ndarray

    @classmethod
    def flat(cls, N: int, M: int) -> Law:
        return cls(np.ones(1), np.array([float(N)]), np.ones(1), np.array([float(M)]))

    @classmethod
    def lognormal(cls, N: int, M: int, row_spread: float, column_spread: float) -> Law:
        """Lognormal variances of mean 1 with these standard deviations of ln sqrt(r) and ln sqrt(c)."""
        from scipy.special import ndtri

        normal = ndtri((np.arange(24) + 0.5) / 24)
        sides = []
        for count, spread in ((N, row_spread), (M, column_spread)):
            values = np.exp(2 * spread * normal) if spread > 0 else np.ones(1)
            sides += [values / values.mean(), np.full(len(values), count / len(values))]
        return cls(*sides)

    @property
    def sides(self) -> tuple[float, float]:
        """Number of rows and of columns."""
        return float(self.row_counts.sum()), float(self.column_counts.sum())

    def without(self, spikes: float) -> Law:
        """The law of a matrix of so many fewer rows and columns, whose variances are spread as here."""
        N, M = self.sides
        return Law(self.rows, self.row_counts * (1 - spikes / N), self.columns, self.column_counts * (1 - spikes / M))

    @cached_property
    def edge(self) -> tuple[float, float]:
        """Upper end of the support, and the unit of the Tracy-Widom fluctuations there.

        Right of the support a is real and z(a) falls to its minimum, the edge; the density below it is that of a square
        root, whose height gives the unit (El Karoui, Annals of Probability 35, 2007; Lee and Schnelli, Annals of Applied
        Probability 26, 2016).
        """
        low, high = 0.0, 1.0
        for _ in range(4):  # each narrows the bracket of the minimum by 17
            step = (high - low) / 33
            a = np.linspace(low, high, 34)[1:-1] / self.rows.max()
            b, slope, z, z_slope = self._outside(a)
            at = int(np.clip(np.argmin(z), 1, len(a) - 2))
            middle = a[at] * self.rows.max()
            low, high = max(middle - step, 0.0), min(middle + step, 1.0)
        curvature = (z_slope[at + 1] - z_slope[at - 1]) / (a[at + 1] - a[at - 1])
        height = (b[at] + a[at] * slope[at]) * np.sqrt(2 / curvature)
        return float(z[at]), float(height ** (-2 / 3))

    def above(self, x: np.ndarray) -> np.ndarray:
        """Expected number of eigenvalues above each of the positive `x`, not rounded.

        It is the phase of the determinant, sum ln(1 - b c) + sum ln(1 - a r) + z a b, just above the real axis.
        """
        for levels in (LEVELS, FINE_LEVELS):
            a, z = self._descend(x, levels)
            b = self._rows_term(a)[0] / z
            if np.abs(self._columns_term(b)[0] / (a * z) - 1).max() < RESIDUAL:
                break
        phase = np.log(1 - np.outer(b, self.columns)) @ self.column_counts
        phase += np.log(1 - np.outer(a, self.rows)) @ self.row_counts + z * a * b
        return phase.imag / np.pi

    def _descend(self, x: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
        """a at z = x + i eta, by Newton's method from large eta to 1e-7 x."""
        far = 2 * (
            self.row_counts @ self.rows * self.columns.max() + self.column_counts @ self.columns * self.rows.max()
        )
        a = (self.column_counts @ self.columns) / (x + 1j * far)
        for level in range(levels + 1):
            z = x + 1j * far * (1e-7 * x / far) ** (level / levels)
            for _ in range(2 if level < levels else 5):
                F, F_slope = self._rows_term(a)
                G, G_slope = self._columns_term(F / z)
                a = a - (a * z - G) / (z - G_slope * F_slope / z)
                # The resolvent's trace has a positive imaginary part; a is its negative.
                a = a.real - 1j * np.abs(a.imag)
        return a, z

    def _outside(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """b, db/da, z, dz/da for real 0 < a < 1 / max r: b solves b G(b) = a F(a)."""
        F, F_slope = self._rows_term(a)
        top = self.columns.argmax()
        # The term of the largest c alone bounds b from above; from there Newton's method falls without a miss.
        b = a * F / (self.columns[top] * (self.column_counts[top] + a * F))
        for _ in range(12):
            G, G_slope = self._columns_term(b)
            b = b - (b * G - a * F) / (G + b * G_slope)
        G, G_slope = self._columns_term(b)
        slope = (F + a * F_slope) / (G + b * G_slope)
        return b, slope, F / b, F_slope / b - F * slope / b**2

    def _rows_term(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """F(a) and its derivative."""
        terms = self.rows / (1 - a[:, None] * self.rows)
        return terms @ self.row_counts, terms**2 @ self.row_counts

    def _columns_term(self, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """G(b) and its derivative."""
        terms = self.columns / (1 - b[:, None] * self.columns)
        return terms @ self.column_counts, terms**2 @ self.column_counts


@dataclass(frozen=True)
class Bulk:
    """The random part of a spectrum.

    Attributes:
        sigma: root mean square entry of the noise.
        low, high: edges of the bulk, in units of the eigenvalues.
        spike_edge: `high` plus the Tracy-Widom margin; eigenvalues above are spikes.
        spikes: their number, less than half of all.
        distance: Kolmogorov-Smirnov distance of the eigenvalues that are no spikes to the law.
        shoulder: eigenvalues just above the edge over those just below, in windows as wide as the top tenth of the law:
            near 0 where the bulk ends, near 1 where it goes on.
    """

    sigma: float
    low: float
    high: float
    spike_edge: float
    spikes: int
    distance: float
    shoulder: float


def fit_bulk(values: np.ndarray, law_at: Callable[[float], Law], copies: int = 1) -> Bulk | None:
    """Fit the law's scale to the middle of the eigenvalues that are no spikes, and count the spikes.

    The middle resists spikes (Gavish and Donoho, 2014, arXiv 1305.5870, section III.E); the spikes found are then set
    aside, and the rest taken for the spectrum of a matrix smaller by their number, until nothing changes. Spikes are
    only added: a count that went back and forth would never end.

    Args:
        values: (n,) positive, ascending eigenvalues of `copies` matrices of one shape.
        law_at: the law of the noise of one matrix, given its number of spikes; variances have mean 1.

    Returns:
        None where half of the eigenvalues or more would be spikes: there is no bulk.
    """
    spikes, scale = 0, None
    while True:
        law = law_at(spikes / copies).without(spikes / copies)
        bulk = values[: len(values) - spikes]
        scale, x, below = _match(law, bulk, scale or float(np.median(bulk)) / law.sides[0])
        edge, unit = law.edge
        spike_edge = scale * (edge + TRACY_WIDOM_99 * unit)
        found = int(np.count_nonzero(values > spike_edge))
        if found >= len(values) // 2:
            return None
        if found <= spikes:
            break
        spikes = found
    levels = (np.arange(len(bulk)) + 0.5) / len(bulk)
    distance = np.abs(np.interp(np.log(bulk), np.log(x), below) - levels).max() + 0.5 / len(bulk)
    width = scale * edge - np.exp(np.interp(1 - SHOULDER, below, np.log(x)))
    beyond = np.count_nonzero((values > spike_edge) & (values <= spike_edge + width))
    return Bulk(
        sigma=scale**0.5,
        low=scale * _low(law),
        high=scale * edge,
        spike_edge=spike_edge,
        spikes=found,
        distance=float(distance),
        shoulder=beyond / (SHOULDER * len(bulk)),
    )


def _match(law: Law, bulk: np.ndarray, scale: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale at which the middle of `bulk` has the law's quantiles; points and the law's distribution function there."""
    x = np.quantile(bulk, GRID)
    total = min(law.sides)
    for _ in range(MAX_ROUNDS):
        below = np.maximum.accumulate(1 - law.above(x / scale) / total)
        quantiles = np.exp(np.interp(MIDDLE, below, np.log(x)))
        ratio = np.interp(MIDDLE, GRID, x).sum() / quantiles.sum()
        scale *= ratio
        if abs(ratio - 1) < 0.02:
            break
    # The points move with the last, small step instead of the law being computed anew. Where the scale does not settle,
    # the distance is large.
    return float(scale), x * ratio, below


def _low(law: Law) -> float:
    """Lower end of the support: below it there is less than a hundredth of an eigenvalue."""
    low, high = 1e-8 * law.edge[0], law.edge[0]
    for _ in range(2):
        x = np.geomspace(low, high, 24)
        at = int(np.searchsorted(np.maximum.accumulate(min(law.sides) - law.above(x)), 0.01))
        low, high = x[max(at - 1, 0)], x[min(at, len(x) - 1)]
    return float(np.sqrt(low * high))


def density(x: np.ndarray, law: Law) -> np.ndarray:
    """Density of the nonzero eigenvalues at the ascending `x`, by differences of their distribution function."""
    middles = np.sqrt(x[1:] * x[:-1])
    edges = np.concatenate([[x[0]], middles, [x[-1]]])
    total = min(law.sides)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(-np.diff(law.above(edges)) / np.diff(edges) / total)
