"""Stage `report`: figures and the HTML report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diversity_spectra.config import Config
    from diversity_spectra.report.section import Figure


def figures(config: Config) -> list[Figure]:
    """All figures of an experiment."""
    from diversity_spectra.report.sections import figures_of

    return figures_of([model.name for model in config.models])
