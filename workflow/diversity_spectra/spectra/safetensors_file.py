"""Safetensors files, read one tensor at a time.

They are read here, not through the library, for two reasons: bfloat16 has no NumPy type, and a memory-mapped file counts
against the process's memory, which is to be bounded by the largest matrix.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from diversity_spectra.errors import UserError

FLOATING = ("float64", "float32", "float16", "bfloat16")
# name in the file -> (name of the type, type to read or None where it is not read, bits)
TYPES = {
    "F64": ("float64", "<f8", 64),
    "F32": ("float32", "<f4", 32),
    "F16": ("float16", "<f2", 16),
    "BF16": ("bfloat16", "<u2", 16),
    "I64": ("int64", "<i8", 64),
    "I32": ("int32", "<i4", 32),
    "I16": ("int16", "<i2", 16),
    "I8": ("int8", "i1", 8),
    "U64": ("uint64", "<u8", 64),
    "U32": ("uint32", "<u4", 32),
    "U16": ("uint16", "<u2", 16),
    "U8": ("uint8", "u1", 8),
    "BOOL": ("bool", "?", 8),
    "F8_E4M3": ("float8_e4m3fn", None, 8),
    "F8_E5M2": ("float8_e5m2", None, 8),
    "F8_E8M0": ("float8_e8m0fnu", None, 8),
    "F4": ("float4", None, 4),
}
HEADER_LIMIT = 100_000_000


@dataclass(frozen=True)
class Entry:
    """What a file says of one tensor before any of it is read.

    Attributes:
        dtype: e.g. `float32` or `int64`.
        problem: why its values cannot be read, or nothing.
    """

    shape: tuple[int, ...]
    dtype: str
    problem: str = ""

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATING


class BFloat16(np.ndarray):
    """bfloat16 as its bits, (uint16), which `astype` turns into numbers: of the blocks that are asked for only."""

    def astype(self, dtype, *arguments, **options) -> np.ndarray:
        # bfloat16 is the upper half of a float32.
        wide = self.view(np.ndarray).astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32).astype(dtype, *arguments, copy=False, **options)


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
        self.metadata, self.entries, self._places = {}, {}, {}
        try:
            self.metadata = header.pop("__metadata__", None) or {}
            for name, item in header.items():
                kind, shape, (begin, end) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
                dtype, _, bits = TYPES.get(kind, (str(kind).lower(), None, None))
                if min(shape, default=0) < 0 or (bits and 8 * (end - begin) != bits * prod(shape)):
                    raise ValueError
                self.entries[name] = Entry(shape, dtype)
                self._places[name] = begin, end, kind
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UserError(f"{path}: not a valid safetensors header") from None
        self._start = 8 + length
        # The format allows neither gaps nor overlaps nor anything after the last tensor.
        at = 0
        for name, (begin, end, _) in sorted(self._places.items(), key=lambda place: place[1][:2]):
            if begin != at:
                raise UserError(f"{path}: damaged: {name} begins at byte {begin} of the data, expected {at}")
            at = end
        if size != self._start + at:
            state = "truncated" if size < self._start + at else "damaged, or something follows the tensors"
            raise UserError(f"{path}: {state}: {size} bytes, its header promises {self._start + at}")

    def read(self, name: str) -> np.ndarray:
        begin, _, kind = self._places[name]
        dtype, stored, _ = TYPES.get(kind, (kind, None, None))
        if stored is None:
            raise UserError(f"{self.path}: {name} has type {dtype}, which is not read")
        shape = self.entries[name].shape
        values = np.fromfile(self.path, stored, count=prod(shape), offset=self._start + begin).reshape(shape)
        return values.view(BFloat16) if kind == "BF16" else values
