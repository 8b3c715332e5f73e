"""Stage `report`: figures and the HTML report.

Only names live here, so that planning can list the figures without drawing anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diversity_spectra.config import Config

# kind of drawing: title
DATA_KINDS = {
    "sample_grids": "Sample images",
    "diversity": "Diversity of the training sets",
}
MODEL_KINDS = {
    "accuracy": "Accuracy and calibration",
    "synthetic_amount": "Amount of synthetic data",
    "esd": "Spectra by family",
    "dose_response": "Measures against strength",
    "layers": "Shift by layer",
    "quadrants": "Quadrants",
    "alignment": "Alignment",
    "metric": "Metric against benefit",
}


@dataclass(frozen=True)
class Figure:
    """A figure of the report: its file name, the kind of drawing, and how Snakemake's own report lists it."""

    name: str
    kind: str
    model: str = ""

    @property
    def title(self) -> str:
        return (DATA_KINDS | MODEL_KINDS)[self.kind]

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
