"""Norms and ranks: sums of eigenvalues are squared Frobenius norms, the largest a squared operator norm."""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra.kind import Kind, Measure, Spectrum


def norms(values: np.ndarray) -> dict[str, float]:
    """Norms and stable rank of ascending eigenvalues (n,), not all zero."""
    norm, largest = float(values.sum()), float(values[-1])
    return {
        "norm": norm,
        "log_norm": float(np.log10(norm)),
        "spectral_norm": largest,
        "lambda_max": largest,
        "log_spectral_norm": float(np.log10(largest)),
        "sv_max": largest**0.5,
        "sv_min": max(float(values[0]), 0.0) ** 0.5,
        "stable_rank": norm / largest,
    }


def measure(spectrum: Spectrum) -> dict:
    rank = len(spectrum.above)
    return norms(spectrum.values) | {"matrix_rank": rank, "rank_loss": len(spectrum.values) - rank}


KIND = Kind(
    0,
    {
        "norm": Measure(
            "λ",
            meaning="Σλ, the squared Frobenius norm",
            weightwatcher="pooled λ of convolutions are halved, with `--no-pool` multiplied by rf / 2",
        ),
        "log_norm": Measure("log10 λ", meaning="log10 norm", label="log norm", scale=2.0),
        "{spectral_norm,lambda_max}": Measure("λ", meaning="max λ, the squared operator norm"),
        "log_spectral_norm": Measure("log10 λ", meaning="log10 max λ", label="log spectral norm", scale=2.0),
        "sv_max": Measure("s", meaning="max s"),
        "sv_min": Measure("s", meaning="min s", weightwatcher="the largest over slices of each slice's smallest"),
        "stable_rank": Measure("1", meaning="Σλ / max λ", label="stable rank", log=True, aligned=True),
        "matrix_rank": Measure(
            "count",
            meaning="number of λ above the rounding floor of the stored weights, and above 1e-13 max λ for weights of 32 bits or fewer",
            weightwatcher="number of s > max s x N x 2.2e-16",
        ),
        "rank_loss": Measure("count", meaning="n - matrix_rank", weightwatcher="summed over slices"),
    },
    measure,
    least=0,
)
