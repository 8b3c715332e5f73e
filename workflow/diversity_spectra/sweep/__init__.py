"""Stage `sweep`: the experiments of a sweep side by side.

Only names live here, so that planning can list tables and figures without drawing anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra import compare

# Tables with a row per layer are large: they are read where they lie.
COMBINED = tuple(name for name in compare.TABLES if name not in ("spectra", "shift"))
TABLES = (*COMBINED, "gains")


@dataclass(frozen=True)
class Figure:
    """A figure over all experiments: its file name, which is the kind of drawing, and its title."""

    kind: str
    title: str
    model: str = ""

    @property
    def name(self) -> str:
        return self.kind

    @property
    def labels(self) -> dict[str, str]:
        """How Snakemake's own report lists it."""
        return {"figure": self.title, "model": "all"}


FIGURES = (
    Figure("verdicts", "Verdicts"),
    Figure("claims", "Claims"),
    Figure("gains", "Gains by family"),
    Figure("conditions", "Conditions"),
)
