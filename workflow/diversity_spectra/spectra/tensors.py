"""Reading weights lazily, one tensor at a time: safetensors, PyTorch state dicts, sharded models, LoRA adapters.

Safetensors files are read here, not through the library, for two reasons: bfloat16 has no NumPy type, and a
memory-mapped file counts against the process's memory, which is to be bounded by the largest matrix.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from diversity_spectra.errors import UserError

# name in the file -> (type to read, bytes)
SAFETENSORS_TYPES = {
    "F64": ("<f8", 8),
    "F32": ("<f4", 4),
    "F16": ("<f2", 2),
    "BF16": ("<u2", 2),
    "I64": ("<i8", 8),
    "I32": ("<i4", 4),
    "I16": ("<i2", 2),
    "I8": ("i1", 1),
    "U64": ("<u8", 8),
    "U32": ("<u4", 4),
    "U16": ("<u2", 2),
    "U8": ("u1", 1),
    "BOOL": ("?", 1),
}
FLOATING = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Entry:
    """What a file says of one tensor before any of it is read. `dtype` is e.g. `float32` or `int64`."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATING.values()


class Tensors(Protocol):
    """A source of named tensors, in the order of the file."""

    entries: dict[str, Entry]
    metadata: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32 (also for 16-bit types, without loss) or float64."""


class SafetensorsFile:
    """One safetensors file. Only the header is read at first.

    Raises:
        UserError: the file is truncated or is no safetensors file.
    """

    def __init__(self, path: Path):
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(size - 8, HEADER_LIMIT):
                raise UserError(f"{path}: not a safetensors file, or truncated ({size} bytes)")
            try:
                header = json.loads(stream.read(length))
            except ValueError:
                raise UserError(f"{path}: not a safetensors file (its header is not JSON)") from None
        try:
            self.metadata = header.pop("__metadata__", None) or {}
            self.entries, self._offsets, self._types = {}, {}, {}
            for name, item in header.items():
                kind, shape, (begin, end) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
                self.entries[name] = Entry(shape, FLOATING.get(kind, kind.lower()))
                self._offsets[name] = 8 + length + begin, 8 + length + end
                self._types[name] = kind
                if kind in SAFETENSORS_TYPES and end - begin != SAFETENSORS_TYPES[kind][1] * int(np.prod(shape)):
                    raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}: not a valid safetensors header") from None
        expected = max((end for _, end in self._offsets.values()), default=8 + length)
        if size < expected:
            raise UserError(f"{path}: truncated: {size} bytes, its header promises {expected}")

    def read(self, name: str) -> np.ndarray:
        kind, shape = self._types[name], self.entries[name].shape
        begin, _ = self._offsets[name]
        if kind not in SAFETENSORS_TYPES:
            raise UserError(f"{self.path}: {name} has type {kind}, which is not read")
        values = np.fromfile(self.path, SAFETENSORS_TYPES[kind][0], count=int(np.prod(shape)), offset=begin)
        if kind == "BF16":
            # bfloat16 is the upper half of a float32.
            values = (values.astype(np.uint32) << 16).view(np.float32)
        elif kind == "F16":
            values = values.astype(np.float32)
        return values.reshape(shape)


class TorchFile:
    """A PyTorch state dict, loaded with `weights_only` so that no code in the pickle can run.

    The dict may be the top level or stand under `state_dict`, `model` or `model_state_dict`.
    """

    def __init__(self, path: Path):
        import pickle

        import torch

        self.metadata: dict[str, str] = {}
        try:
            # Memory-mapped where the file allows it (the zip format), so that layers are read when they are asked for.
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except pickle.UnpicklingError:
            raise UserError(f"{path}: holds more than tensors; refused, since loading it could run code") from None
        except (RuntimeError, EOFError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not a readable PyTorch file ({str(error).splitlines()[0][:120]})") from None
        for key in ("state_dict", "model_state_dict", "model"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
        if not isinstance(state, dict):
            raise UserError(f"{path}: holds a {type(state).__name__}, not a dict of tensors")
        self._state = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        self.entries = {
            name: Entry(tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for name, value in self._state.items()
        }

    def read(self, name: str) -> np.ndarray:
        import torch

        value = self._state[name].detach()
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        # A copy: the mapped pages are then released with the tensor.
        return value.numpy().copy()


class Shards:
    """Several files read as one."""

    def __init__(self, files: list[Tensors]):
        self.metadata = {key: value for file in files for key, value in file.metadata.items()}
        self._file = {name: file for file in files for name in file.entries}
        self.entries = {name: file.entries[name] for name, file in self._file.items()}

    def read(self, name: str) -> np.ndarray:
        return self._file[name].read(name)


@dataclass
class LoraAdapter:
    """A LoRA adapter (Hu et al., 2021, arXiv 2106.09685) over its base: W = W_base + scale * B @ A.

    Without a base, `read` returns the update scale * B @ A, and `update_only` is true.
    """

    adapter: Tensors
    scales: dict[str, float]
    base: Tensors | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pairs = {}
        for name in self.adapter.entries:
            if match := LORA_A.match(name):
                other = match["head"] + "lora_B" + match["tail"]
                if other in self.adapter.entries:
                    self._pairs[self._base_name(match["head"])] = (name, other)
        self.entries = dict(self.base.entries) if self.base else {}
        for name, (a, b) in self._pairs.items():
            shape = (self.adapter.entries[b].shape[0], self.adapter.entries[a].shape[1])
            self.entries.setdefault(name, Entry(shape, self.adapter.entries[a].dtype))

    @property
    def update_only(self) -> bool:
        return self.base is None

    @property
    def adapted(self) -> set[str]:
        return set(self._pairs)

    def _base_name(self, head: str) -> str:
        name = head.rstrip(".").removeprefix("base_model.model.")
        candidates = [f"{name}.weight", f"{name.removeprefix('model.')}.weight", f"model.{name}.weight"]
        known = self.base.entries if self.base else {}
        return next((candidate for candidate in candidates if candidate in known), candidates[0])

    def read(self, name: str) -> np.ndarray:
        update = self._update(name) if name in self._pairs else None
        if self.base is None or name not in self.base.entries:
            return update
        value = self.base.read(name)
        return value if update is None else value.astype(np.float64) + update

    def _update(self, name: str) -> np.ndarray:
        a, b = (self.adapter.read(part).astype(np.float64) for part in self._pairs[name])
        scale = self.scales.get(name.removesuffix(".weight").rsplit(".", 1)[-1], self.scales[""])
        return scale * (b @ a)


LORA_A = re.compile(r"(?P<head>.*)lora_A(?P<tail>\.(?:default\.)?weight)$")


def open_model(path: Path, base: Tensors | None = None) -> Tensors:
    """Open a model: a file, a folder in the layout of the Hugging Face hub, or a shard index.

    A LoRA adapter is recognised by its tensor names and is merged with `base` where one is given.

    Raises:
        UserError: no such file, a format that is not read, or a damaged file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        path = _main_file(path)
    model = _open_index(path) if path.name.endswith(".index.json") else _open_file(path)
    if any(LORA_A.match(name) for name in model.entries):
        return LoraAdapter(model, _lora_scales(path, model), base)
    return model


def _open_file(path: Path) -> Tensors:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        return TorchFile(path)
    raise UserError(f"{path}: weights are read from .safetensors, .pt, .pth, .bin, .ckpt or .index.json files")


def _open_index(path: Path) -> Tensors:
    try:
        names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{path}: not a shard index (no weight_map)") from None
    missing = [name for name in names if not (path.parent / name).exists()]
    if missing:
        raise UserError(f"{path}: shard {missing[0]} is missing")
    return Shards([_open_file(path.parent / name) for name in names])


def _main_file(folder: Path) -> Path:
    for name in (
        "adapter_model.safetensors",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ):
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder}: holds no model.safetensors, adapter_model.safetensors or pytorch_model.bin")


def _lora_scales(path: Path, model: Tensors) -> dict[str, float]:
    """Scale per module name, and under "" for all others, from adapter_config.json; 1 where there is none."""
    file = path.parent / "adapter_config.json"
    if not file.exists():
        return {"": 1.0}
    config = json.loads(file.read_text())

    def scale(alpha: float, rank: int) -> float:
        return alpha / (rank**0.5 if config.get("use_rslora") else rank)

    alpha, rank = config.get("lora_alpha", config["r"]), config["r"]
    alphas, ranks = config.get("alpha_pattern") or {}, config.get("rank_pattern") or {}
    scales = {name: scale(alphas.get(name, alpha), ranks.get(name, rank)) for name in {*alphas, *ranks}}
    return {"": scale(alpha, rank), **scales}


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"
