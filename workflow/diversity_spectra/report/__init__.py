"""Stage `report`: figures and the HTML report.

Only names live here, so that planning can list the figures without drawing anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diversity_spectra.config import Config

# kind of drawing: (title, section of Snakemake's own report)
DATA_KINDS = {
    "sample_grids": ("Sample images", "1 Data"),
    "diversity": ("Diversity of the training sets", "1 Data"),
}
MODEL_KINDS = {
    "accuracy": ("Accuracy and calibration", "2 Evaluation"),
    "synthetic_amount": ("Amount of synthetic data", "2 Evaluation"),
    "esd": ("Spectra by family", "3 Spectra"),
    "dose_response": ("Measures against strength", "3 Spectra"),
    "layers": ("Shift by layer", "3 Spectra"),
    "quadrants": ("Quadrants", "4 Comparison"),
    "alignment": ("Alignment", "4 Comparison"),
    "metric": ("Metric against benefit", "4 Comparison"),
}


@dataclass(frozen=True)
class Figure:
    """A figure of the report: its file name, the kind of drawing, and how Snakemake's own report lists it."""

    name: str
    kind: str
    model: str = ""

    @property
    def title(self) -> str:
        return (DATA_KINDS | MODEL_KINDS)[self.kind][0]

    @property
    def category(self) -> str:
        return (DATA_KINDS | MODEL_KINDS)[self.kind][1]

    @property
    def caption(self) -> str:
        """Name of the caption in workflow/report/, without its suffix."""
        return self.kind

    @property
    def labels(self) -> dict[str, str]:
        return {"figure": self.title, "model": self.model or "all"}


def figures(config: Config) -> list[Figure]:
    """All figures of an experiment: some for the data, the others once per model."""
    return figures_of([model.name for model in config.models])


def figures_of(models: list[str]) -> list[Figure]:
    return [Figure(kind, kind) for kind in DATA_KINDS] + [
        Figure(f"{kind}-{model}", kind, model) for kind in MODEL_KINDS for model in models
    ]
