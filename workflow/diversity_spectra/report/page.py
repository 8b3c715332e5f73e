"""The page: one self-contained HTML text, section by section."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

import jinja2

from diversity_spectra import __version__
from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Drawn
from diversity_spectra.report.sections import SECTIONS


def render(material: Material, drawn: Iterable[Drawn], title: str, experiment: str, packages: dict[str, str]) -> str:
    """The whole page as text; equal arguments give equal text."""
    shared = {"models": material.models, "confidence": material.confidence, "figures": list(drawn)}
    templates = environment()
    texts = [
        templates.get_template(f"sections/{section.name}.html.j2").render(shared | section.facts(material))
        for section in SECTIONS
    ]
    names = {"title": title, "experiment": experiment, "version": __version__, "packages": packages}
    return templates.get_template("page.html.j2").render(names, sections=SECTIONS, texts=texts)


def environment(*folders: Path) -> jinja2.Environment:
    """Where templates are found: in this folder, or in others that extend it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment


def _data_uri(svg: str) -> str:
    """An image that travels with the page. As an image it cannot run scripts or clash with another's ids."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
