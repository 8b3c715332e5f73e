"""Overlap of the leading singular subspaces with those that training started from."""

from __future__ import annotations

from diversity_spectra.spectra import decompose
from diversity_spectra.spectra.kind import Kind, Measure, Spectrum

WHEN = "rows `W` with a reference, strict"


def measure(spectrum: Spectrum) -> dict:
    """Mean squared cosine of the principal angles between leading singular subspaces, 0 to 1."""
    if spectrum.pretrained is None or len(spectrum.parts) > 1:
        return {}
    k = min(spectrum.options.subspace, min(spectrum.parts[0].shape) // 2)
    theirs = spectrum.pretrained(k)
    if theirs is None:
        return {}
    ours = decompose.top_vectors(spectrum.parts[0], k)
    long, short = (float(((a.T @ b) ** 2).sum() / k) for a, b in zip(ours, theirs, strict=True))
    return {"subspace_k": k, "subspace_overlap_long": long, "subspace_overlap_short": short}


OVERLAP = (
    "mean cos² of the principal angles between the k leading singular subspaces of W and of the weights that training started "
    "from, on the {} side; two random subspaces give k / {}"
)
KIND = Kind(
    6,
    {
        "subspace_k": Measure("count", meaning="k = min(10, M // 2)", when=WHEN),
        "subspace_overlap_long": Measure(
            "0 to 1", meaning=OVERLAP.format("longer", "N"), when=WHEN, label="overlap with the start, longer side"
        ),
        "subspace_overlap_short": Measure(
            "0 to 1", meaning=OVERLAP.format("shorter", "M"), when=WHEN, label="overlap with the start, shorter side"
        ),
    },
    measure,
)
