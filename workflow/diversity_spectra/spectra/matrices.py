"""From parameters to named matrices: which tensors are analysed, as which matrices, and why others are not."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from diversity_spectra.spectra.groups import Groups, convolution_groups
from diversity_spectra.spectra.low_rank import Product
from diversity_spectra.spectra.safetensors_file import Entry

# WeightWatcher 0.7.7 leaves out larger matrices; the strict convention has no upper limit.
WEIGHTWATCHER_MAX_EIGENVALUES = 15_000
WEIGHTWATCHER_MAX_SIDE = 50_000

FUSED_QKV = re.compile(r"(^|[._])(qkv|in_proj|c_attn|Wqkv)([._]weight)?$")
# Words, not parts of words: composition, property_head and positionwise_ff are linear maps.
POSITIONS = re.compile(
    r"(^|[._])(wpe|position(al)?|pos_emb\w*|pos_bias\w*|(embed_)?positions|position(al)?_(emb|enc|bias|ids|table)\w*"
    r"|rel(ative)?_pos\w*|rope\w*|freqs\w*)$",
    re.IGNORECASE,
)
EXPERTS = re.compile(r"(^|[._])experts([._]|$)")
# What accompanies quantised weights: GPTQ and AWQ, bitsandbytes, and float8 with scales.
QUANTISED = re.compile(
    r"(^|\.)(qweight|qzeros|scales|g_idx|weight_scale(_inv)?|weight_packed|SCB|weight\.(absmax|quant_map|nested_\w+|quant_state\.\w+))$"
)
WAY_OUT = "dequantise the model first (with transformers: model.dequantize()) and save it"


@dataclass(frozen=True)
class View:
    """One row to be: how the matrices of a row are cut out of a parameter, or the reason why there are none.

    Attributes:
        layer: unique name: module path without `.weight`, with the part in brackets where a parameter is split.
        view: `dense`, `expert` (one of a stack of matrices), `unfolded` (out, in * kernel), `groups` (one unfolded matrix
            per group), `slices` (one (out, in) matrix per kernel position, eigenvalues pooled) or `position` (one such
            matrix alone).
        N, M: longer and shorter side of one matrix (swapped where WeightWatcher swaps them).
        count: number of matrices whose eigenvalues are pooled in the row.
        part: index of the part (q, k, v or kernel position), or None.
        groups, source: groups of a convolution, and whether they were `inferred` or `given`.
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
    groups: int | None = None
    source: str = ""

    def cut(self, tensor: np.ndarray | Product) -> list[np.ndarray | Product]:
        """The (rows, columns) matrices of this row, as views of `tensor` where possible."""
        if isinstance(tensor, Product):
            if self.view == "dense":
                return [tensor if self.part is None else tensor.part(self.part, 3, self.axis)]
            if self.view == "unfolded":
                return [tensor]
            tensor = tensor.dense()
        match self.view:
            case "dense" if self.part is not None:
                size = tensor.shape[self.axis] // 3
                chosen = slice(self.part * size, (self.part + 1) * size)
                return [tensor[chosen] if self.axis == 0 else tensor[:, chosen]]
            case "dense":
                return [tensor]
            case "expert":
                return [tensor[self.part]]
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
    groups: tuple[str, ...] = (),
) -> list[View]:
    """One `View` per row of the table, in the order of `entries`; every parameter has at least one.

    Args:
        groups: `PATTERN=N`, groups of the convolutions with such names, where they are not to be inferred.
    """
    views: list[View] = []
    known = convolution_groups(entries, groups)
    quantised = any(QUANTISED.search(name) for name in entries)
    for name, entry in entries.items():
        if entry.problem:
            views.append(View(layer_name(name), name, reason=entry.problem))
            continue
        if convention == "weightwatcher":
            views += _weightwatcher_views(name, entry, pool, min_eigenvalues)
        else:
            views += _strict_views(name, entry, conv, min_eigenvalues, known.get(name), quantised)
    return views


def layer_name(parameter: str) -> str:
    return parameter.removesuffix(".weight")


def _strict_views(
    name: str, entry: Entry, conv: str, minimum: int, groups: Groups | None, quantised: bool
) -> list[View]:
    layer, shape = layer_name(name), entry.shape

    def skip(reason: str) -> list[View]:
        return [View(layer, name, reason=reason)]

    def unless_small(short: int, views: list[View]) -> list[View]:
        return views if short >= minimum else skip(_too_few(short, minimum))

    if reason := _not_linear(name, entry, quantised):
        return skip(reason)
    if len(shape) == 2:
        long, short = max(shape), min(shape)
        if FUSED_QKV.search(name) and long == 3 * short:
            axis = int(shape[1] > shape[0])
            parts = [
                View(f"{layer}[{part}]", name, "dense", short, short, part=index, axis=axis)
                for index, part in enumerate("qkv")
            ]
            return unless_small(short, parts)
        return unless_small(short, [View(layer, name, "dense", long, short)])
    if len(shape) == 3 and EXPERTS.search(name):
        long, short = max(shape[1:]), min(shape[1:])
        experts = [View(f"{layer}[{index}]", name, "expert", long, short, part=index) for index in range(shape[0])]
        return unless_small(short, experts)
    if not name.endswith("weight"):
        return skip(f"{len(shape)} dimensions and not called weight: not a linear map")
    out, inner, kernel = shape[0], shape[1], shape[2:]
    number, source = groups or Groups(1, "inferred")
    rf = int(np.prod(kernel))
    if out % number:
        return skip(f"{number} groups do not divide {out} output channels")
    if number > 1 and inner == 1:
        return skip(f"depthwise convolution: {number} matrices of {out // number} x {rf} have no spectrum to speak of")
    if conv == "positions" and rf > 1 and number == 1 and len(kernel) == 2:
        long, short = max(out, inner), min(out, inner)
        positions = [
            View(
                f"{layer}[{i},{j}]", name, "position", long, short, rf, part=i * kernel[1] + j, groups=1, source=source
            )
            for i in range(kernel[0])
            for j in range(kernel[1])
        ]
        return unless_small(short, positions)
    sides = out // number, inner * rf
    view = "groups" if number > 1 else "unfolded"
    whole = View(layer, name, view, max(sides), min(sides), rf, count=number, groups=number, source=source)
    return unless_small(min(sides), [whole])


def _not_linear(name: str, entry: Entry, quantised: bool) -> str:
    """Why a tensor is no linear map whose values can be read, or nothing."""
    if quantised and QUANTISED.search(name):
        return f"part of a quantised weight; {WAY_OUT}"
    if entry.dtype.startswith("float") and not entry.floating:
        return f"{entry.dtype} values are not analysed without their scales; {WAY_OUT}"
    if not entry.floating:
        stored = len(entry.shape) >= 2 and name.endswith("weight") and entry.dtype in ("int8", "uint8", "int32")
        return f"{entry.dtype} values are not analysed" + (f": a quantised weight; {WAY_OUT}" if stored else "")
    if len(entry.shape) < 2:
        return "fewer than two dimensions: no matrix"
    if POSITIONS.search(layer_name(name)):
        return "a table of positions is not a linear map"
    return "empty" if 0 in entry.shape else ""


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
