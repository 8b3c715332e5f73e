"""From parameters to named matrices: which tensors are analysed, as which matrices, and why others are not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diversity_spectra.spectra.tensors import Entry

# WeightWatcher 0.7.7 leaves out larger matrices; the strict convention has no upper limit.
WEIGHTWATCHER_MAX_EIGENVALUES = 15_000
WEIGHTWATCHER_MAX_SIDE = 50_000

FUSED_QKV = re.compile(r"(^|[._])(qkv|in_proj|c_attn|Wqkv)([._]weight)?$")
POSITIONS = re.compile(r"(pos_embed|position|positional|rel_pos|relative_position|rope|freqs)[^.]*$", re.IGNORECASE)
# A convolution of a one-channel image and a depthwise convolution have the same shape; these names tell them apart.
STEM = re.compile(r"^(conv_stem|conv1|features\.0(\.0)?|stem\b.*|patch_embed\b.*)$")


@dataclass(frozen=True)
class View:
    """One row to be: how the matrices of a row are cut out of a parameter, or the reason why there are none.

    Attributes:
        layer: unique name: module path without `.weight`, with the part in brackets where a parameter is split.
        view: `dense`, `unfolded` (out, in * kernel), `groups` (one unfolded matrix per group), `slices` (one (out, in)
            matrix per kernel position, eigenvalues pooled) or `position` (one such matrix alone).
        N, M: longer and shorter side of one matrix (swapped where WeightWatcher swaps them).
        count: number of matrices whose eigenvalues are pooled in the row.
        part: index of the part (q, k, v or kernel position), or None.
        eigenvalue_factor: WeightWatcher multiplies convolution matrices by sqrt(c / 2); this is c / 2.
    """

    layer: str
    parameter: str
    view: str = "none"
    N: int = 0
    M: int = 0
    rf: int = 1
    count: int = 1
    part: int | None = None
    axis: int = 0
    eigenvalue_factor: float = 1.0
    reason: str = ""

    def cut(self, tensor: np.ndarray) -> list[np.ndarray]:
        """The (rows, columns) matrices of this row, as views of `tensor` where possible."""
        match self.view:
            case "dense" if self.part is not None:
                size = tensor.shape[self.axis] // 3
                return [np.take(tensor, range(self.part * size, (self.part + 1) * size), axis=self.axis)]
            case "dense":
                return [tensor]
            case "unfolded" | "groups":
                return list(tensor.reshape(self.count, tensor.shape[0] // self.count, -1))
            case "slices" | "position":
                slices = tensor.transpose(2, 3, 0, 1).reshape(-1, *tensor.shape[:2])
                return list(slices) if self.part is None else [slices[self.part]]
        raise ValueError(self.view)


def plan(
    entries: dict[str, Entry],
    convention: str = "strict",
    conv: str = "unfolded",
    pool: bool = True,
    min_eigenvalues: int = 8,
) -> list[View]:
    """One `View` per row of the table, in the order of `entries`; every parameter has at least one."""
    views: list[View] = []
    before = _before(entries)
    for name, entry in entries.items():
        if convention == "weightwatcher":
            views += _weightwatcher_views(name, entry, pool, min_eigenvalues)
        else:
            views += _strict_views(name, entry, conv, min_eigenvalues, _groups(name, entry.shape, before.get(name)))
    return views


def layer_name(parameter: str) -> str:
    return parameter.removesuffix(".weight")


def _strict_views(name: str, entry: Entry, conv: str, minimum: int, groups: int) -> list[View]:
    layer, shape = layer_name(name), entry.shape

    def skip(reason: str) -> list[View]:
        return [View(layer, name, reason=reason)]

    if not entry.floating:
        return skip(f"{entry.dtype} values are not analysed")
    if len(shape) < 2:
        return skip("fewer than two dimensions: no matrix")
    if POSITIONS.search(layer):
        return skip("a table of positions is not a linear map")
    if 0 in shape:
        return skip("empty")
    if len(shape) == 2:
        long, short = max(shape), min(shape)
        if FUSED_QKV.search(name) and long == 3 * short:
            if short < minimum:
                return skip(_too_few(short, minimum))
            axis = int(shape[1] > shape[0])
            return [
                View(f"{layer}[{part}]", name, "dense", short, short, part=index, axis=axis)
                for index, part in enumerate("qkv")
            ]
        return [View(layer, name, "dense", long, short)] if short >= minimum else skip(_too_few(short, minimum))
    if not name.endswith("weight"):
        return skip(f"{len(shape)} dimensions and not called weight: not a linear map")
    out, inner, kernel = shape[0], shape[1], shape[2:]
    rf = int(np.prod(kernel))
    if groups > 1 and out // groups * inner == out // groups:
        return skip(f"depthwise convolution: {groups} matrices of {out // groups} x {rf} have no spectrum to speak of")
    if conv == "positions" and rf > 1 and groups == 1 and len(kernel) == 2:
        long, short = max(out, inner), min(out, inner)
        if short < minimum:
            return skip(_too_few(short, minimum))
        return [
            View(f"{layer}[{i},{j}]", name, "position", long, short, rf, part=i * kernel[1] + j)
            for i in range(kernel[0])
            for j in range(kernel[1])
        ]
    sides = out // groups, inner * rf
    if min(sides) < minimum:
        return skip(_too_few(min(sides), minimum))
    return [View(layer, name, "groups" if groups > 1 else "unfolded", max(sides), min(sides), rf, count=groups)]


def _weightwatcher_views(name: str, entry: Entry, pool: bool, minimum: int) -> list[View]:
    layer, shape = layer_name(name), entry.shape

    def skip(reason: str) -> list[View]:
        return [View(layer, name, reason=reason)]

    if not name.endswith(".weight"):
        return skip("WeightWatcher analyses only parameters called weight")
    if len(shape) not in (2, 4) or 0 in shape or not entry.floating:
        return skip(f"WeightWatcher analyses no {entry.dtype} tensors of {len(shape)} dimensions")
    if len(shape) == 2:
        long, short, rf = max(shape), min(shape), 1
    else:
        long, short, rf = *shape[:2], shape[2] * shape[3]
        # It swaps N and M once per kernel position, so an even kernel leaves them as they were; and not at all where
        # the kernel has more positions a side than there are channels.
        if long < short and rf % 2 == 1 and sum(shape[:2]) >= sum(shape[2:]):
            long, short = short, long
    values = short * rf if pool else short
    if values < minimum:
        return skip(_too_few(values, minimum))
    if values > WEIGHTWATCHER_MAX_EIGENVALUES:
        return skip(f"{values} eigenvalues, WeightWatcher's limit is {WEIGHTWATCHER_MAX_EIGENVALUES}")
    if long > WEIGHTWATCHER_MAX_SIDE:
        return skip(f"a side of {long}, WeightWatcher's limit is {WEIGHTWATCHER_MAX_SIDE}")
    if len(shape) == 2:
        return [View(layer, name, "dense", long, short)]
    if pool:
        return [View(layer, name, "slices", long, short, rf, count=rf, eigenvalue_factor=0.5)]
    return [
        View(f"{layer}[{i // shape[3]},{i % shape[3]}]", name, "position", long, short, rf, 1, i, 0, rf / 2)
        for i in range(rf)
    ]


def _too_few(values: int, minimum: int) -> str:
    return f"{values} eigenvalues, fewer than {minimum}"


def convolution_groups(name: str, entries: dict[str, Entry]) -> int:
    """Number of groups of a convolution, inferred; 1 where nothing speaks for more.

    A weight of shape (out, in / groups, ...) does not tell its groups. One input channel is taken for a depthwise
    convolution unless the name is that of a stem. A kernel larger than 1 is taken for a grouped one where the
    convolution before it in the same block gives a whole multiple of its input channels.
    """
    return _groups(name, entries[name].shape, _before(entries).get(name))


def _groups(name: str, shape: tuple[int, ...], before: int | None) -> int:
    if len(shape) < 3 or not name.endswith(".weight"):
        return 1
    if shape[1] == 1:
        return 1 if STEM.match(layer_name(name)) or shape[0] == 1 else shape[0]
    if max(shape[2:]) > 1 and before and before % shape[1] == 0 and shape[0] % (before // shape[1]) == 0:
        return before // shape[1]
    return 1


def _before(entries: dict[str, Entry]) -> dict[str, int]:
    """Output channels of the convolution that comes before each in its block."""
    blocks: dict[tuple[str, int], list[str]] = {}
    for name, entry in entries.items():
        if len(entry.shape) >= 3 and (block := _block(name)):
            blocks.setdefault((block, len(entry.shape)), []).append(name)
    ordered = [sorted(names, key=_natural) for names in blocks.values()]
    return {name: entries[last].shape[0] for names in ordered for last, name in pairwise(names)}


def _block(name: str) -> str:
    """`layer1.0` for `layer1.0.conv2.weight`, `s1.b2` for `s1.b2.conv2.conv.weight`."""
    return re.sub(r"\.?[^.]+$", "", re.sub(r"\.conv$", "", layer_name(name)))


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
