"""The sections of the page, in order.

A section is a module with a `SECTION` and, beside it, the template `<name>.html.j2`; it is listed here and nowhere else.
"""

from __future__ import annotations

from dataclasses import replace

from diversity_spectra.report.section import Figure
from diversity_spectra.report.sections import (
    answer,
    comparison,
    data,
    evaluation,
    gaps,
    metric,
    run,
    spectra,
    study,
    training,
    words,
)

SECTIONS = tuple(
    module.SECTION
    for module in (answer, run, words, data, training, evaluation, spectra, comparison, metric, study, gaps)
)
FIGURES = tuple(figure for section in SECTIONS for figure in section.figures)


def figures_of(models: list[str]) -> list[Figure]:
    """All figures of an experiment with these models: some once, the others once per model."""
    return [replace(figure, model=model) for figure in FIGURES for model in (models if figure.per_model else [""])]
