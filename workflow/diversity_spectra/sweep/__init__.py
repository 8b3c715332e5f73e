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
    """A figure over all experiments: its file name, which is the kind of drawing, its title, and what it shows."""

    kind: str
    title: str
    about: str
    model: str = ""

    @property
    def name(self) -> str:
        return self.kind

    @property
    def labels(self) -> dict[str, str]:
        """How Snakemake's own report lists it."""
        return {"figure": self.title, "model": "all"}


FIGURES = (
    Figure("verdicts", "Verdicts", "by network, whether the regularisers could be seen, and the verdict on each claim"),
    Figure(
        "claims", "Claims", "a forest plot per claim: its effect with interval for every network of every experiment"
    ),
    Figure("gains", "Gains by family", "what each family gains over the baseline in accuracy and calibration"),
    Figure(
        "conditions",
        "Conditions",
        "every condition of every network: gain in accuracy, and cosine of its shift with the direction of dropout",
    ),
)
