"""All measures of one spectrum in the strict convention, by the kinds that the registry knows."""

from __future__ import annotations

from diversity_spectra.spectra.kind import Spectrum
from diversity_spectra.spectra.kinds import KINDS


def of_zeros(size: int) -> dict:
    """What is known of a matrix of zeros with `size` eigenvalues."""
    zeros = dict.fromkeys(("norm", "spectral_norm", "lambda_max", "sv_max", "sv_min"), 0.0)
    return {**zeros, "matrix_rank": 0, "rank_loss": size, "reason": "all values are zero"}


def strict_measures(spectrum: Spectrum) -> dict:
    """All columns, and in `reason` why some are missing."""
    row, reasons = {}, []
    for kind in KINDS:
        if len(spectrum.above) < kind.least:
            reasons.append(f"rank below {kind.least}: no distribution of eigenvalues")
            continue
        found = kind.measure(spectrum)
        reasons.append(found.pop("reason", ""))
        row |= found
    return row | {"reason": "; ".join(dict.fromkeys(filter(None, reasons)))}
