"""Opening a model: files, folders and shards of weights as one lazy source of named tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.lora import LoraAdapter, is_adapter
from diversity_spectra.spectra.reparametrised import reparametrised
from diversity_spectra.spectra.safetensors_file import FLOATING, BFloat16, Entry, SafetensorsFile
from diversity_spectra.spectra.torch_file import TorchFile

__all__ = ["FLOATING", "BFloat16", "Entry", "LoraAdapter", "SafetensorsFile", "Tensors", "TorchFile", "open_model"]

MAIN_FILES = (
    "adapter_model.safetensors",
    "adapter_model.bin",
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
# What DataParallel and torch.compile put before every name.
WRAPPER = re.compile(r"^(module\.|_orig_mod\.)+")


class Tensors(Protocol):
    """A source of named tensors, in the order of the file."""

    entries: dict[str, Entry]
    metadata: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """The tensor in its stored type, bfloat16 as `BFloat16`; parts that were put together as float64.

        Raises:
            UserError: a type that is not read, or values that are not there.
        """


class Shards:
    """Several files read as one."""

    def __init__(self, files: list[Tensors]):
        self.metadata = {key: value for file in files for key, value in file.metadata.items()}
        self._file = {name: file for file in files for name in file.entries}
        self.entries = {name: file.entries[name] for name, file in self._file.items()}

    def read(self, name: str) -> np.ndarray:
        return self._file[name].read(name)


class Renamed:
    """Tensors without the wrappers' prefix of all their names."""

    def __init__(self, tensors: Tensors):
        self.metadata, self._tensors = tensors.metadata, tensors
        self._names = {WRAPPER.sub("", name): name for name in tensors.entries}
        self.entries = {name: tensors.entries[stored] for name, stored in self._names.items()}

    def read(self, name: str) -> np.ndarray:
        return self._tensors.read(self._names[name])


def open_model(path: Path, base: Tensors | None = None, key: str | None = None) -> Tensors:
    """Open a model: a file, a folder in the layout of the Hugging Face hub, or a shard index.

    A LoRA adapter is recognised by its tensor names and is merged with `base` where one is given. Weight norm and
    spectral norm are put together.

    Args:
        key: where the state dict stands in a PyTorch file that holds several, or which of several adapters.

    Raises:
        UserError: no such file, a format that is not read, or a damaged file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        path = _main_file(path)
    model = _open_index(path, key) if path.name.endswith(".index.json") else _open_file(path, key)
    if is_adapter(model.entries):
        return LoraAdapter(path, model, base, None if isinstance(model, TorchFile) else key)
    return reparametrised(unwrapped(model))


def unwrapped(tensors: Tensors) -> Tensors:
    """Without the wrappers' prefix, where all names have one."""
    return Renamed(tensors) if wrapped(tensors.entries) else tensors


def wrapped(names: Iterable[str]) -> bool:
    names = list(names)
    return bool(names) and all(WRAPPER.match(name) for name in names)


def _open_file(path: Path, key: str | None) -> Tensors:
    with path.open("rb") as stream:
        if stream.read(23) == b"version https://git-lfs":
            raise UserError(f"{path}: a Git LFS pointer, not the weights; fetch them with `git lfs pull`")
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".tar"):
        return TorchFile(path, key)
    raise UserError(f"{path}: weights are read from .safetensors, .pt, .pth, .bin, .ckpt or .index.json files")


def _open_index(path: Path, key: str | None) -> Tensors:
    try:
        places = dict(json.loads(path.read_text())["weight_map"])
        if not all(isinstance(file, str) for file in places.values()):
            raise TypeError
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{path}: not a shard index (no weight_map)") from None
    files = sorted(set(places.values()))
    for name in files:
        if Path(name).name != name:
            raise UserError(f"{path}: shard {name} lies outside its folder")
        if not (path.parent / name).exists():
            raise UserError(f"{path}: shard {name} is missing")
    opened = {name: _open_file(path.parent / name, key) for name in files}
    for tensor, file in places.items():
        if tensor not in opened[file].entries:
            raise UserError(f"{path}: {tensor} is not in {file}, where it should be")
    return Shards(list(opened.values()))


def _main_file(folder: Path) -> Path:
    for name in MAIN_FILES:
        if (folder / name).exists():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{folder}: holds {', '.join(file.name for file in found[:5])}; name one of them")
    raise UserError(f"{folder}: holds no model.safetensors, adapter_model.safetensors or pytorch_model.bin")
