"""The look of all figures: one colour and one marker per family, sizes for print, identical bytes on every run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from diversity_spectra.conditions import FAMILIES
from diversity_spectra.errors import UserError
from diversity_spectra.files import atomic_file
from diversity_spectra.report import section
from diversity_spectra.report.section import Drawing
from diversity_spectra.report.words import MINUS, plain

INK, MUTED, FAINT = "#222222", "#767676", "#d9d9d9"
DENSE = 1000  # cells or points of one panel beyond which they are drawn as pixels in the SVG
HEAVY = 100_000  # characters of an SVG from which a PNG may be smaller
FAR = 3  # times as far as marks are apart, beyond the outermost, intervals are drawn
WIDTH = 7.5  # inches: at this width the text prints at its own size

# Background and ink of a verdict, as on the page, and its mark.
VERDICTS = {
    "supported": ("#d8ecf7", "#05476f", "o"),
    "contradicted": ("#fae0cf", "#85370a", "s"),
    "mixed": ("#efe3f3", "#5b2a6e", "^"),
    "inconclusive": ("#e9e8e3", "#4a4a46", "D"),
}

RC = {
    **sns.axes_style("ticks"),
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "text.color": INK,
    # A class may be called `$x$`.
    "text.parse_math": False,
    # Hinted text has another width at every resolution; the layout must fit all of them.
    "text.hinting": "none",
    "axes.formatter.use_mathtext": False,
    "svg.hashsalt": "diversity-spectra",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Palette:
    """Colours of the families, the same in every figure."""

    name: str = "colorblind"

    def colour(self, family: str) -> str:
        place = FAMILIES[family].colour if family in FAMILIES else None
        return INK if place is None else mpl.colors.to_hex(sns.color_palette(self.name)[place])

    def ink(self, family: str) -> str:
        """Its colour for words: as much darker as they need to be read on white."""
        return readable(self.colour(family))

    def shades(self, family: str, count: int) -> list[str]:
        """From light (weak) to the family's own colour (strong)."""
        own = np.array(mpl.colors.to_rgb(self.colour(family)))
        light = 0.35 * own + 0.65
        return [mpl.colors.to_hex(light + (own - light) * share) for share in np.linspace(1, 0, count)[::-1]]


CONTRAST = 4.5  # of text with its background (WCAG 2.1, 1.4.3)


def contrast(colour: str) -> float:
    """Contrast of a colour with white, by WCAG 2.1: 1 to 21."""
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05))


def readable(colour: str) -> str:
    """The colour, darkened until its contrast with white is CONTRAST."""
    channels = np.array(mpl.colors.to_rgb(colour))
    while contrast(mpl.colors.to_hex(channels)) < CONTRAST:
        channels = channels * 0.97
    return mpl.colors.to_hex(channels)


def marker(family: str) -> str:
    return FAMILIES[family].marker if family in FAMILIES else "o"


def rc(style: str | None) -> dict:
    """Our settings, with the user's style file on top. Raises `UserError` where it cannot be read."""
    if not style:
        return RC
    if not Path(style).is_file():
        raise UserError(f"report.style: {style}: no such file; name a matplotlib style file (.mplstyle)")
    return {**RC, **mpl.rc_params_from_file(style, use_default_template=False)}


def canvas(width: float, height: float, *args: int, **options: object) -> tuple[Figure, np.ndarray]:
    """A figure of `width` x `height` inches with its grid of axes, always a 2-d array. No pyplot, no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(*args, squeeze=False, **options)


def family_legend(
    figure: Figure, palette: Palette, families: list[str], baseline: bool = True, numbers: dict[str, str] | None = None
) -> None:
    """One legend for all panels, below them: it can hide no data; the figure grows by its further lines.

    numbers: the family of each `number name` whose number stands beside marks.
    """
    handles = [Line2D([], [], color=INK, marker="o", ls="", label="baseline")] if baseline else []
    for family in families:
        labels = [plain(family), *(label for label, own in (numbers or {}).items() if own == family)]
        look = {"color": palette.colour(family), "marker": marker(family), "ls": ""}
        handles += [Line2D([], [], label=label, **look) for label in labels]
    room = figure.get_figwidth() / (0.4 + 0.055 * max(len(handle.get_label()) for handle in handles))
    columns = max(1, min(len(handles), 5 if numbers else 7, int(room)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handletextpad=0.3)
    figure.set_figheight(figure.get_figheight() + 0.15 * (-(-len(handles) // columns) - 1))


def paint_ticks(axis, families: list[str], palette: Palette) -> None:
    """Give every tick label the colour of its family."""
    for label, family in zip(axis.get_ticklabels(), families, strict=True):
        label.set_color(palette.ink(family))


def log_ticks(axis) -> None:
    """Plain numbers on a log axis: powers of ten, or 1, 2, 5 where the axis spans less than two of them."""
    low, high = axis.get_view_interval()
    narrow = high / low < 50
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def signed_ticks(axis, sizes: tuple[float, ...] = (3, 10, 30, 100, 300, 1000)) -> None:
    """Ticks of an asinh axis, which is linear near 0 and logarithmic far from it."""
    steps = [sign * size for size in sizes for sign in (-1, 1)]
    axis.set_major_locator(FixedLocator(sorted([0, *steps])))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))


def near_marks(ax: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """Let intervals run off the picture that are many times as long as all marks are apart, so that these can be told apart."""
    for values, limits, limit in ((x, ax.get_xlim(), ax.set_xlim), (y, ax.get_ylim(), ax.set_ylim)):
        low, high = min(values), max(values)
        reach = FAR * ((high - low) or abs(high) or 1.0)
        limit(max(limits[0], low - reach), min(limits[1], high + reach))


def zero_lines(axes: Axes, x: bool = True, y: bool = True) -> None:
    if y:
        axes.axhline(0, color=MUTED, lw=0.6, zorder=0)
    if x:
        axes.axvline(0, color=MUTED, lw=0.6, zorder=0)


def notice(text: str) -> Figure:
    """A file for a figure that cannot be drawn: the workflow promises one for every kind."""
    figure = Figure(figsize=(WIDTH, 0.8))
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True, color=MUTED)
    return figure


def save(figure: Figure, folder: Path, name: str, dpi: int) -> str:
    """Write `name`.svg and `name`.png, the same bytes every time; returns the SVG's text."""
    # The layout is solved once, not once or twice per format.
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
    with atomic_file(folder / f"{name}.svg") as path:
        figure.savefig(path, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
        text = path.read_text(encoding="utf-8")
    with atomic_file(folder / f"{name}.png") as path:
        figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})
    return text


def keep(figure: section.Figure, drawing: Drawing, folder: Path, dpi: int) -> section.Drawn:
    """Write a figure's files, and say what the page needs of it."""
    made = drawing.figure or notice(drawing.caption)
    text = save(made, folder, figure.name, dpi)
    pixels = _few_colours(folder / f"{figure.name}.png") if len(text) > HEAVY else None
    return section.Drawn(figure, drawing.caption, text if drawing.figure else None, made.get_figwidth(), pixels)


def _few_colours(path: Path) -> bytes:
    """A PNG at a third of its size: figures are flat colours."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").quantize(64).save(stream, "PNG", optimize=True)
    return stream.getvalue()
