"""What a section of the page consists of. Light: whoever lists figures draws none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Drawing:
    """A figure and the caption that says what to see; None where there is nothing to draw: the caption says why."""

    caption: str
    figure: Canvas | None = None


@dataclass(frozen=True)
class Figure:
    """A figure of the report: a kind of drawing, and the model that it shows.

    about: what it shows, in a phrase. draw: from the material and the name of the model. per_model: drawn once for each
    model, else once for the experiment. model: empty where it is of the whole experiment, or not yet of any model.
    """

    kind: str
    title: str
    about: str
    draw: Callable[..., Drawing]
    per_model: bool = True
    model: str = ""

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.kind}-{self.model}" if self.model else self.kind


@dataclass(frozen=True)
class Drawn:
    """A figure of the page. svg: None where there was nothing to draw, and the caption says why."""

    figure: Figure
    caption: str
    svg: str | None
    width: float = 7.5  # inches
    pixels: bytes | None = None  # the same as PNG, for a page that would be too large

    @property
    def fact(self) -> dict[str, str]:
        """What a record says of it."""
        figure = self.figure
        return {"name": figure.name, "title": figure.title, "model": figure.model, "caption": self.caption}


def _nothing(material: object) -> dict:
    return {}


@dataclass(frozen=True)
class Section:
    """A part of the page.

    name: its anchor, and its template `<name>.html.j2`. title: in the list of contents. figures: in their order on the
    page. facts: all that the template prints beside them, by the names that it uses.
    """

    name: str
    title: str
    figures: tuple[Figure, ...] = ()
    facts: Callable[..., dict[str, object]] = _nothing
