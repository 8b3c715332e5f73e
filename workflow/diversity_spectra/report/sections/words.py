"""The words of the page, in short."""

from __future__ import annotations

from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Section

RESTS = {"dW": "the claims rest on it", "W": "the claims here rest on W"}


def facts(material: Material) -> dict[str, object]:
    matrices = {material.matrix(model) for model in material.models}
    mixed = "the claims rest on it, and on W for networks of which it is not known"
    return {"rests": RESTS[matrices.pop()] if len(matrices) == 1 else mixed}


SECTION = Section("words", "The words", facts=facts)
