"""The page: one self-contained HTML text, section by section."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path

import jinja2

from diversity_spectra import __version__
from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Drawn
from diversity_spectra.report.sections import SECTIONS

TIED = re.compile(
    r"(?<=,) (?=[^\s\[\]]+\])|(?<=[<>]) (?=\d)"
)  # spaces at which `[0.1, 0.2]` and `< 0.001` would break over lines
LARGEST = 6_000_000  # characters of all SVGs of a page: base64 makes 8 MB of them


def render(
    material: Material,
    drawn: Iterable[Drawn],
    title: str,
    experiment: str,
    packages: dict[str, str],
    version: str = __version__,
) -> str:
    """The whole page as text; equal arguments give equal text."""
    drawn = list(drawn)
    whole = sum(len(one.svg or "") for one in drawn)
    shared = {"models": material.models, "confidence": material.confidence, "figures": drawn, "whole": whole}
    templates = environment()
    texts = [
        templates.get_template(f"sections/{section.name}.html.j2").render(shared | section.facts(material))
        for section in SECTIONS
    ]
    names = {"title": title, "experiment": experiment, "version": version, "packages": packages}
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
        finalize=_tied,
    )
    environment.filters["data_uri"] = _data_uri
    return environment


def _tied(value: object) -> object:
    """Text with intervals and bounds that stay on one line; whatever else as it is."""
    return TIED.sub("\N{NO-BREAK SPACE}", value) if type(value) is str else value


def _data_uri(drawn: Drawn, whole: int = 0) -> str:
    """An image that travels with the page. As an image it cannot run scripts or clash with another's ids.

    whole: characters of all figures of the page as SVG. Beyond what a page may have, those of which a PNG is smaller
    are PNGs; the SVG lies beside the page in any case.
    """
    if whole > LARGEST and drawn.pixels and len(drawn.pixels) < len(drawn.svg):
        return "data:image/png;base64," + base64.b64encode(drawn.pixels).decode()
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.svg.encode()).decode()
