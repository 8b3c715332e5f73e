"""Variances of the noise of rows and columns, from the matrix itself, whatever low-rank signal it carries.

The diagonal of a resolvent holds them: for noise X_ij = sqrt(r_i c_j) Z_ij, eps (X^T X + eps)^-1 has the diagonal
1 / (1 + t c_j) with one t for all columns, and likewise for rows; a strong signal moves it by no more than its rank
(Landa and Kluger, "The Dyson equalizer", arXiv 2306.11263, who take for eps the median eigenvalue). Sums of squares of
rows and columns would take the signal for noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.marchenko_pastur import Law

# Rows and columns of a larger matrix that are looked at: what counts is how they are distributed.
SAMPLE = 512
# A row or column whose power is below this share of the median is dead: it adds nothing but a zero eigenvalue.
DEAD = 1e-6
# Distinct variances of either side that the law is computed with.
ATOMS = 24


@dataclass(frozen=True)
class VarianceProfile:
    """What noise leaves in the resolvents of one or several matrices of one shape.

    Attributes:
        N, M: rows and columns of one matrix that are not dead, on average.
        rows, columns: (k,), (l,) diagonals of eps (W W^T + eps)^-1 and eps (W^T W + eps)^-1, between 0 and 1.
        row_noise, column_noise: variance of ln r and of ln c that estimation alone causes.
        largest_entry: largest |Z| over (NM)^(1/4), the size from which on a single entry makes a spike of its own
            (Benaych-Georges and Nadakuditi, arXiv 1103.2221, section 3.1, for a signal in one row and column).
    """

    N: float
    M: float
    rows: np.ndarray
    columns: np.ndarray
    row_noise: float
    column_noise: float
    largest_entry: float

    def variances(self, spikes: float) -> tuple[np.ndarray, np.ndarray]:
        """r (k,) and c (l,), each of mean 1, where `spikes` directions of either side belong to a signal."""
        return (
            _variances(self.rows, spikes / self.N, self.row_noise, self.N),
            _variances(self.columns, spikes / self.M, self.column_noise, self.M),
        )

    def law(self, spikes: float) -> Law:
        rows, columns = self.variances(spikes)
        return Law(*_atoms(rows, self.N), *_atoms(columns, self.M))

    def spreads(self, spikes: float) -> tuple[float, float]:
        """Standard deviations of ln sqrt(r) and of ln sqrt(c)."""
        rows, columns = self.variances(spikes)
        return float(np.log(rows).std() / 2), float(np.log(columns).std() / 2)


def variance_profile(matrices: list[Combination], values: np.ndarray) -> VarianceProfile:
    """Profile of the noise of tall matrices of one shape, none of which is zero.

    Args:
        values: (n,) the eigenvalues of all, ascending.
    """
    eps = float(np.median(values))
    # Eigenvalues of eps (W^T W + eps)^-1: the larger side of one matrix has N - M ones besides.
    shares = eps / (values + eps)
    profiles = [
        _of_one(matrix, eps, shares.sum() / len(matrices), (shares**2).sum() / len(matrices)) for matrix in matrices
    ]
    return VarianceProfile(
        rows=np.concatenate([profile.rows for profile in profiles]),
        columns=np.concatenate([profile.columns for profile in profiles]),
        largest_entry=max(profile.largest_entry for profile in profiles),
        **{
            name: float(np.mean([getattr(profile, name) for profile in profiles]))
            for name in ("N", "M", "row_noise", "column_noise")
        },
    )


def _of_one(matrix: Combination, eps: float, trace: float, squares: float) -> VarianceProfile:
    """Profile of one matrix; `trace` and `squares` are tr A and tr A^2 of A = eps (W^T W + eps)^-1."""
    from scipy.linalg import solve_triangular

    column_powers, row_powers = matrix.gram.diagonal(), matrix.row_powers()
    live, live_rows = (np.flatnonzero(_alive(powers)) for powers in (column_powers, row_powers))
    N, M = float(len(live_rows)), len(live)
    chosen = _spread(column_powers[live])
    sample = matrix.take(live_rows[_spread(row_powers[live_rows])])[:, live]
    units = np.zeros((M, len(chosen)))
    units[chosen, np.arange(len(chosen))] = 1
    # One triangular factor gives both diagonals: (G + eps)^-1_jj = |L^-1 e_j|^2, and w (G + eps)^-1 w = |L^-1 w|^2.
    resolvent = matrix.gram.copy() if len(matrix.gram) == M else matrix.gram[np.ix_(live, live)]
    resolvent.flat[:: M + 1] += eps
    factor = np.linalg.cholesky(resolvent)
    solved = solve_triangular(factor, np.hstack([units, sample.T]), lower=True, check_finite=False)
    inverse = np.square(solved).sum(axis=0)
    # Kept off 0 and 1, which only rounding reaches.
    columns = np.clip(eps * inverse[: len(chosen)], 1e-12, 1 - 1e-12)
    rows = np.clip(1 - inverse[len(chosen) :], 1e-12, 1 - 1e-12)
    entries = np.square(sample[:, chosen]) / np.outer(1 / rows - 1, 1 / columns - 1)
    entries /= entries.mean()
    # A quadratic form w A w of independent entries has the relative variance 2 tr A^2 / (tr A)^2, and the excess kurtosis
    # over their number where A is nearly a multiple of one.
    excess, rest = max(float(np.square(entries).mean()) - 3, 0.0), max(N - M, 0.0)
    return VarianceProfile(
        N=N,
        M=float(M),
        rows=rows,
        columns=columns,
        row_noise=2 * squares / trace**2 + excess / M,
        column_noise=2 * (squares + rest) / (trace + rest) ** 2 + excess / N,
        largest_entry=float((entries.max() ** 2 / (N * M)) ** 0.25),
    )


def _alive(powers: np.ndarray) -> np.ndarray:
    return powers > DEAD * np.median(powers[powers > 0])


def _spread(powers: np.ndarray) -> np.ndarray:
    """At most `SAMPLE` indices, from the middles of as many equal parts of the sorted powers."""
    count = min(len(powers), SAMPLE)
    return np.argsort(powers, kind="stable")[((np.arange(count) + 0.5) * len(powers) / count).astype(int)]


def _variances(diagonal: np.ndarray, share: float, noise: float, size: float) -> np.ndarray:
    """Variances of mean 1 from a resolvent's diagonal, of which a signal occupies `share` of all directions.

    The signal's directions do not contribute: the diagonal is (1 - h) / (1 + t r), h being the part of the row in them,
    `share` on average and scattered by 2 share (1 - share) / size. What estimation scatters is taken out of the spread of
    ln r, so that noise of one variance is given one variance.
    """
    terms = (1 - share) / diagonal - 1
    typical = np.median(terms)
    if typical <= 0:
        return np.ones(len(diagonal))
    logs = np.log(np.maximum(terms, 1e-3 * typical))
    noise = noise + 2 * share / (1 - share) / size * ((1 + typical) / typical) ** 2
    true = logs.var() - noise
    if true <= 0:
        return np.ones(len(diagonal))
    variances = np.exp((true / logs.var()) ** 0.5 * (logs - logs.mean()))
    return variances / variances.mean()


def _atoms(variances: np.ndarray, count: float) -> tuple[np.ndarray, np.ndarray]:
    """At most `ATOMS` values with their numbers, `count` in all: means over runs of sorted values, shortest at the ends."""
    size = len(variances)
    if np.ptp(variances) == 0:
        return variances[:1], np.array([count])
    half = np.geomspace(1, size / 2, ATOMS // 2) if size > ATOMS else np.arange(1, size / 2 + 1)
    starts = np.unique(np.round(np.concatenate([[0], half, size - half[::-1]])).astype(int))
    starts = starts[starts < size]
    numbers = np.diff([*starts, size])
    return np.add.reduceat(np.sort(variances), starts) / numbers, numbers * (count / size)
