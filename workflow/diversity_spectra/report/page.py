"""The page: one self-contained HTML text. `answers` and `results` decide what is shown, page.html.j2 how."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2

from diversity_spectra import __version__
from diversity_spectra.report import Figure, answers, results, setup
from diversity_spectra.report.material import Material


@dataclass(frozen=True)
class Drawn:
    """A figure of the page. svg: None where there was nothing to draw, and the caption says why."""

    figure: Figure
    caption: str
    svg: str | None
    width: float = 7.5  # inches


def render(material: Material, drawn: dict[str, Drawn], title: str, experiment: str, packages: dict[str, str]) -> str:
    """The whole page as text; equal arguments give equal text."""
    return template("page.html.j2").render(
        title=title,
        experiment=experiment,
        models=material.models,
        confidence=material.confidence,
        level=material.level,
        power=material.power,
        lead=answers.lead(material),
        controls=answers.controls(material),
        claims=answers.claims(material),
        setup=setup.summary(material),
        model_rows=setup.models(material),
        conditions=setup.conditions(material),
        figures=drawn.values(),
        evaluation={model: results.evaluation(material, model) for model in material.models},
        diversity=results.diversity(material),
        quality=results.quality(material),
        digest={model: results.shifts(material, model) for model in material.models},
        metric={model: results.metric(material, model) for model in material.models},
        validation={model: results.validation(material, model) for model in material.models},
        prediction={model: results.prediction(material, model) for model in material.models},
        skipped=results.skipped(material),
        diverged=results.diverged(material),
        version=__version__,
        packages=packages,
    )


def template(name: str, *folders: Path) -> jinja2.Template:
    """A template of this folder, or of others that extend it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template(name)


def _data_uri(svg: str) -> str:
    """An image that travels with the page. As an image it cannot run scripts or clash with another's ids."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
