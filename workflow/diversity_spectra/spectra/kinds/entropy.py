"""Entropy of the eigenvalues."""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra.kind import Kind, Measure, Spectrum


def entropy(values: np.ndarray) -> float:
    """Entropy -sum p ln p / ln(n) of p = values / sum, 0 to 1, for n positive values; NaN for fewer than two."""
    if len(values) < 2:
        return float("nan")
    p = values / values.sum()
    return float(-(p * np.log(p)).sum() / np.log(len(p)))


def measure(spectrum: Spectrum) -> dict:
    return {"entropy": entropy(spectrum.above)}


KIND = Kind(
    1,
    {
        "entropy": Measure(
            "0 to 1",
            meaning="-Σ p ln p / ln(matrix_rank), p = λ / Σλ over the λ that matrix_rank counts",
            weightwatcher="over all λ, p + 1e-10 for p, rank + 1e-10",
            label="entropy",
            aligned=True,
        )
    },
    measure,
)
