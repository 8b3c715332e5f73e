"""How names and numbers are written, in figures and on the page alike."""

from __future__ import annotations

import math
import re

from diversity_spectra.spectra.kinds import COMPARED

MATRICES = {
    "W": "the weights W",
    "dW": "dW, what training changed of the weights that it started from",
}
KERNELS = {"pixel": "pixels", "pixel_centred": "pixels, centred", "embedding": "embedding"}
BENEFITS = {
    "ood_accuracy": "gain in accuracy\nout of distribution",
    "id_accuracy": "gain in accuracy\non the test set",
    "calibration": "gain in calibration\non the test set",
}
SHIFTS = {"none": "test set", "natural": "another source", "corruption": "corrupted"}
NOTHING = "\N{EN DASH}"
TICK = 28  # characters
MINUS = "\N{MINUS SIGN}"


def plain(name: str) -> str:
    return name.replace("_", " ")


def measure(name: str, matrix: str = "W") -> str:
    label = COMPARED[name].label if name in COMPARED else plain(name)
    return label + ("" if matrix == "W" else f" of {matrix}")


def kernel(name: str) -> str:
    return KERNELS.get(name, plain(name))


def condition(name: str, broken: bool = False) -> str:
    """`augmentation-gaussian_noise-0.1` is told as `gaussian noise 0.1`; a user's checkpoint keeps its name.

    broken: parts of a combination on lines of their own.
    """
    if name.startswith("checkpoint-"):
        return name
    parts = [part.removeprefix("augmentation-") for part in name.split("+")]
    # A hyphen separates words, but for the one of a number such as 1e-05.
    return (" +\n" if broken else " + ").join(plain(re.sub(r"(?<!\de)-", " ", part)) for part in parts)


def tick(name: str, broken: bool = False) -> str:
    """A condition beside an axis, where a name that a user made long would leave no room for what is drawn."""
    return shortened(name) if name.startswith("checkpoint-") else condition(name, broken)


def shortened(name: str) -> str:
    """At most TICK characters: names that differ do so at their beginning or end, so the middle is left out."""
    half = TICK // 2
    return name if len(name) <= TICK else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[1 - half :]}"


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= digits or size < -4:
        return f"{value:.0f}" if 0 <= size < 6 else f"{value:.{digits - 1}e}"
    return f"{value:.{max(0, digits - 1 - size)}f}".replace("-", MINUS)


def fixed(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """`digits` decimals, with a minus before negative numbers and no sign before a zero."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = f"{abs(value):.{digits}f}"
    if not float(size):
        return size
    return f"{MINUS if value < 0 else '+' if sign else ''}{size}"


def interval(value: float, low: float, high: float, digits: int = 3, sign: bool = False) -> str:
    """`0.912 [0.905, 0.919]`; without brackets where no interval is known."""
    text = fixed(value, digits, sign)
    if not all(map(math.isfinite, (value, low, high))):
        return text
    return f"{text} [{fixed(low, digits, sign)}, {fixed(high, digits, sign)}]"


def probability(p: float) -> str:
    if not math.isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def listing(items: list[str], last: str = "and") -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def counted(numbers: list[int], noun: str = "run") -> str:
    """`8 runs`, or `1 to 8 runs` where they differ."""
    low, high = int(min(numbers, default=0)), int(max(numbers, default=0))
    plural = f" {noun}{'' if high == 1 else 's'}" if noun else ""
    return f"{low} to {high}{plural}" if low != high else f"{high}{plural}"
