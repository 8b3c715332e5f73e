"""Groups of convolutions, which a file of weights does not state."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import NamedTuple

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.safetensors_file import Entry

# A convolution of a one-channel image and a depthwise convolution have the same shape. These names tell them apart.
STEM = re.compile(r"^(conv_stem|conv1|features\.0(\.0)?|stem(\.0|\.conv1?)*|patch_embed(\.proj)?)$")


class Groups(NamedTuple):
    number: int
    source: str


def convolution_groups(entries: dict[str, Entry], given: tuple[str, ...] = ()) -> dict[str, Groups]:
    """Groups of every convolution, `given` by patterns of names (`PATTERN=N`) or `inferred` from shapes.

    A weight of shape (out, in / groups, ...) has one input channel where the convolution is depthwise, or where it has a
    stem's name or is the first, and none sees the three channels of a colour image. A kernel larger than 1 is taken for a
    grouped one where the convolution before it in the same block has a multiple of its input channels, and it a multiple of
    those, as in the bottlenecks of ResNeXt, RegNet and ResNeSt; parallel branches seldom have.
    """
    convolutions = {
        name: entry.shape
        for name, entry in entries.items()
        if len(entry.shape) >= 3 and name.rpartition(".")[2] == "weight"
    }
    patterns = [_pattern(text) for text in given]
    for pattern, _ in patterns:
        if not any(_matches(name, pattern) for name in convolutions):
            raise UserError(f"--groups {pattern}: no convolution has such a name")
    before, found = _before(convolutions), {}
    colour = any(shape[1] == 3 for shape in convolutions.values())
    for index, (name, shape) in enumerate(convolutions.items()):
        number = next((number for pattern, number in patterns if _matches(name, pattern)), None)
        if number:
            found[name] = Groups(number, "given")
        else:
            found[name] = Groups(_inferred(name, shape, before.get(name), first=index == 0 and not colour), "inferred")
    return found


def _inferred(name: str, shape: tuple[int, ...], before: int | None, first: bool) -> int:
    if shape[1] == 1:
        return 1 if first or STEM.match(name.removesuffix(".weight")) else max(shape[0], 1)
    fits = before and shape[1] and before % shape[1] == 0 and shape[0] % before == 0
    return before // shape[1] if fits and max(shape[2:]) > 1 else 1


def _before(convolutions: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Output channels of the convolution that comes before each in its block."""
    blocks: dict[tuple[str, int], list[str]] = {}
    for name, shape in convolutions.items():
        if block := _block(name):
            blocks.setdefault((block, len(shape)), []).append(name)
    ordered = [sorted(names, key=_natural) for names in blocks.values()]
    return {name: convolutions[last][0] for names in ordered for last, name in pairwise(names)}


def _block(name: str) -> str:
    """`layer1.0` for `layer1.0.conv2.weight`, `s1.b2` for `s1.b2.conv2.conv.weight`."""
    return re.sub(r"\.?[^.]+$", "", re.sub(r"\.conv$", "", name.removesuffix(".weight")))


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removesuffix(".weight"), pattern)


def _pattern(text: str) -> tuple[str, int]:
    pattern, _, number = text.rpartition("=")
    if not pattern or not number.isdigit() or int(number) < 1:
        raise UserError(f"--groups {text}: expected PATTERN=N, as in '*.conv2=32'")
    return pattern, int(number)
