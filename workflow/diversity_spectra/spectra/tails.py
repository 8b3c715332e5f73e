"""Exponents over a fixed share of the eigenvalues, and what speaks against a fitted tail.

The tail that `powerlaw.fit_tail` chooses varies from draw to draw: for noise its exponent is a lottery. A fixed share
gives up finding where a power law begins, and is stable.
"""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra.decompose import GRAM_NOISE, Combination
from diversity_spectra.spectra.powerlaw import Tail

# Side of the largest window, and windows along either side of a matrix.
WINDOW = 128
WINDOWS = 2
# Draws for the goodness of fit at fixed xmin.
DRAWS = 100
# Level of a warning by a test; a range of fewer than so many times xmin is too narrow for a power law.
LEVEL = 0.01
NARROW = 2.0
# Top values among which a gap is looked for.
TOP = 10
# Below this spread eigenvalues are equal, as those of an orthogonal matrix are: what differs is rounding.
EQUAL = 1e-3


def equal(values: np.ndarray) -> bool:
    """Whether values (n,), ascending, are equal but for rounding, so that no exponent describes them."""
    return bool(values[-1] < (1 + EQUAL) * values[0])


def hill(values: np.ndarray) -> float:
    """Exponent of the density over the upper half: 1 + k / sum of ln(x / x_(n-k)) over the k = n // 2 largest.

    Hill, Annals of Statistics 3 (1975); the half is that of Zhou et al., "Temperature balancing", arXiv 2312.00359.

    Args:
        values: (n,) positive, ascending. NaN for fewer than two, or where those of the upper half are equal.
    """
    k = len(values) // 2
    if k == 0 or equal(values[-k - 1 :]):
        return float("nan")
    return float(1 + k / np.log(values[-k:] / values[-k - 1]).sum())


def farms(matrices: list[Combination], floor: float) -> float:
    """Hill's exponent over square windows of one size, so that it does not depend on the matrix's shape.

    FARMS (Hu et al., "Eigenspectrum analysis of neural networks without aspect ratio bias", arXiv 2506.06280): the
    eigenvalues of evenly spaced square submatrices are pooled. Here they have the shorter side or `WINDOW`, whichever is
    less, at up to `WINDOWS` places along either side.

    Args:
        matrices: (N, M) each.
        floor: eigenvalues up to here cannot be told from zero.
    """
    N, M = matrices[0].shape
    size = min(M, WINDOW)
    columns = [slice(start, start + size) for start in _starts(M, size)]
    windows = [
        rows[:, part]
        for matrix in matrices
        for start in _starts(N, size)
        for rows in [matrix.take(slice(start, start + size))]
        for part in columns
    ]
    stacked = np.stack(windows)
    values = np.linalg.eigvalsh(stacked.transpose(0, 2, 1) @ stacked)
    return hill(np.sort(values[values > np.maximum(floor, GRAM_NOISE * values[:, -1:])]))


def _starts(side: int, size: int) -> list[int]:
    places = min(WINDOWS, -(-side // size))
    return [round(start) for start in np.linspace(0, side - size, places)]


def goodness(tail: Tail, rng: np.random.Generator) -> float:
    """p of the tail's distance among `DRAWS` samples of its law with xmin held: 1 + how many are as far, over DRAWS + 1.

    In y = ln(x / xmin) a power law is an exponential one, and the distance of a sample to the law fitted to it depends on
    the number of values only (Lilliefors, J. American Statistical Association 64, 1969). That xmin was chosen to make the
    distance small is left out: the true p is smaller. `powerlaw.bootstrap` chooses xmin anew.
    """
    y = np.sort(rng.exponential(size=(DRAWS, tail.n - 1)), axis=1)
    y = np.hstack([np.zeros((DRAWS, 1)), y])
    gap = 1 - np.exp(-y / y.mean(axis=1, keepdims=True)) - np.arange(tail.n) / tail.n
    distances = np.maximum(gap, 1 / tail.n - gap).max(axis=1)
    return float((1 + np.count_nonzero(distances >= tail.D)) / (DRAWS + 1))


def warnings(values: np.ndarray, tail: Tail, p: float) -> list[str]:
    """What speaks against reading `tail` as a power law, each in a few words.

    Args:
        values: (n,) ascending; the tail is its upper end.
        p: goodness of fit.
    """
    top = values[-tail.n :]
    ratio = top[-1] / tail.xmin
    found = []
    if p <= LEVEL:
        found.append(f"no power law: p {p:.2g}")
    if ratio < NARROW:
        found.append(f"narrow tail: from xmin to {ratio:.3g} xmin")
    # Aban, Meerschaert and Panorska, J. American Statistical Association 101 (2006): a tail that goes on has its
    # largest value this low with probability p.
    elif np.exp(-tail.n * ratio ** (1 - tail.alpha)) < LEVEL:
        found.append("tail truncated above")
    # Of an exponential sample the i-th gap from the top times i is again exponential (Renyi, 1953).
    logs = np.log(top[-TOP - 1 :][::-1])
    gaps = -np.diff(logs) * np.arange(1, len(logs))
    scale = 1 / (tail.alpha - 1)
    apart = np.flatnonzero(gaps > scale * np.log(len(gaps) / LEVEL)) if len(gaps) else gaps
    if len(apart):
        found.append(f"fingers: {apart[-1] + 1} values far above the rest")
    return found
