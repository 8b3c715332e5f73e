"""Exponents over a fixed share of the eigenvalues."""

from __future__ import annotations

from diversity_spectra.spectra import tails
from diversity_spectra.spectra.kind import STRICT, Kind, Measure, Spectrum


def measure(spectrum: Spectrum) -> dict:
    return {
        "alpha_hill": tails.hill(spectrum.above),
        "alpha_farms": tails.farms(spectrum.parts, spectrum.floor),
    }


KIND = Kind(
    3,
    {
        "alpha_hill": Measure(
            "1",
            meaning="exponent over the upper half: 1 + k / Σ ln(λ / λ_(n-k)) over the k = n // 2 largest of the λ that matrix_rank counts",
            source="spectra.tails.hill",
            when=STRICT,
            label="alpha (Hill)",
            aligned=True,
        ),
        "alpha_farms": Measure(
            "1",
            meaning="the same over the pooled λ of square windows of side min(M, 128), at most 2 along either side: independent of "
            "the matrix's shape",
            source="spectra.tails.farms",
            when=STRICT,
            label="alpha (FARMS)",
            beside=True,
        ),
    },
    measure,
)
