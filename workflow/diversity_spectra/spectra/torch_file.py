"""PyTorch's files, read without PyTorch and without running anything that a pickle asks for.

A pickle is a program that calls what it names. Here every name that is not one of the few that rebuild tensors stands for
a class that does nothing, so that checkpoints with trainers, configurations and whole modules in them can be read, and
hostile ones do no harm.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.safetensors_file import BFloat16, Entry

MAGIC = 0x1950A86A20F9469CFC6C
# PyTorch's storage types and dtypes -> (name, type to read or None)
STORAGES = {
    "DoubleStorage": ("float64", "<f8"),
    "FloatStorage": ("float32", "<f4"),
    "HalfStorage": ("float16", "<f2"),
    "BFloat16Storage": ("bfloat16", "<u2"),
    "LongStorage": ("int64", "<i8"),
    "IntStorage": ("int32", "<i4"),
    "ShortStorage": ("int16", "<i2"),
    "CharStorage": ("int8", "i1"),
    "ByteStorage": ("uint8", "u1"),
    "BoolStorage": ("bool", "?"),
    "ComplexFloatStorage": ("complex64", "<c8"),
    "ComplexDoubleStorage": ("complex128", "<c16"),
}
DTYPES = {name: stored for name, stored in STORAGES.values()}
# Keys under which state dicts are kept, the first that is there being taken; never looked into: what is no model.
USUAL = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "params",
    "weights",
    "params_ema",
    "ema",
)
OTHER = ("optim", "sched", "scaler", "callback", "loop", "hyper", "config", "args", "rng")
DEPTH = 4


class Inert:
    """Stands for an object of any class: takes whatever a pickle does to it, and does nothing."""

    state: object = None

    def __new__(cls, *arguments, **options):
        return object.__new__(cls)

    def __init__(self, *arguments, **options):
        pass

    def __call__(self, *arguments, **options):
        return Inert()

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        pass

    def append(self, value):
        pass

    def extend(self, values):
        pass

    add = append


class Mapping(dict):
    """Stands for dicts of all kinds; has room for the attributes that a state dict carries."""

    def __init__(self, *arguments):
        super().__init__(arguments[0] if arguments and isinstance(arguments[0], list | dict) else ())

    def __setstate__(self, state):
        pass


@dataclass(frozen=True)
class Storage:
    """Where the values of one or several tensors lie; `dtype` is None for untyped bytes."""

    key: str
    dtype: str | None


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read."""

    storage: Storage | None
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    problem: str = ""


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *rest, dtype: str | None = None) -> Stored:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides) or not all(isinstance(n, int) for n in numbers):
        raise ValueError("a tensor without a place")
    return Stored(storage, offset, tuple(shape), tuple(strides), dtype or storage.dtype or "uint8")


def _tensor_of_type(storage, offset, shape, strides, grad, hooks, dtype, *rest) -> Stored:
    return _tensor(storage, offset, shape, strides, dtype=getattr(dtype, "named", "unknown"))


def _unread(problem: str, place_of_shape: int):
    def rebuild(*arguments) -> Stored:
        shape = arguments[place_of_shape] if len(arguments) > place_of_shape else ()
        shape = tuple(shape) if isinstance(shape, tuple | list) and all(isinstance(n, int) for n in shape) else ()
        return Stored(None, 0, shape, (), "float32", problem)

    return rebuild


def _sparse(layout, data, *rest) -> Stored:
    shape = next((tuple(part) for part in reversed(data) if isinstance(part, tuple)), ())
    return Stored(None, 0, shape, (), "float32", "a sparse tensor: store it dense, with to_dense()")


def _of_subclass(function, kind, arguments, state=None):
    return function(*arguments) if function in REBUILD.values() else Inert()


REBUILD = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_of_type,
    "_rebuild_parameter": lambda data, *rest: data,
    "_rebuild_parameter_with_state": lambda data, *rest: data,
    "_rebuild_from_type_v2": _of_subclass,
    "_rebuild_sparse_tensor": _sparse,
    "_rebuild_sparse_csr_tensor": _sparse,
    "_rebuild_meta_tensor_no_storage": _unread("a meta tensor: no values were saved", 1),
    "_rebuild_qtensor": _unread("a quantised tensor: dequantize() it first", 2),
    "_rebuild_nested_tensor": _unread("a nested tensor", 99),
    "_rebuild_wrapper_subclass": _unread("a tensor of a class of its own (quantised?): store it plain", 2),
}


class InertUnpickler(pickle.Unpickler):
    """Builds containers, numbers, text and `Stored` tensors; everything else becomes `Inert`."""

    def find_class(self, module: str, name: str):
        if module == "torch._utils" and name in REBUILD:
            return REBUILD[name]
        if module == "torch._tensor" and name == "_rebuild_from_type_v2":
            return _of_subclass
        if (module, name) in (("collections", "OrderedDict"), ("collections", "defaultdict")):
            return Mapping
        if (module, name) == ("torch", "Size"):
            return tuple
        return type(name, (Inert,), {"named": name})

    def persistent_load(self, identifier):
        kind, key = identifier[1], identifier[2]
        return Storage(str(key), STORAGES.get(getattr(kind, "named", ""), (None,))[0])


class TorchFile:
    """A PyTorch checkpoint: the state dict in it, wherever it stands.

    Args:
        key: where it stands, keys joined by dots; found where there is one only, or one of the usual names.

    Raises:
        UserError: damaged, or without tensors, or with several state dicts of which none has a usual name.
    """

    def __init__(self, path: Path, key: str | None = None):
        self.path, self.metadata = path, {}
        self._places: dict[str, tuple[int, int]] = {}
        try:
            content = self._open_zip() if zipfile.is_zipfile(path) else self._open_legacy()
        except UserError:
            raise
        except Exception as error:
            # A damaged pickle can fail in any way.
            text = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UserError(f"{path}: not a readable PyTorch file ({text})") from None
        self._tensors = _state_dict(path, content, key)
        self.entries = {name: Entry(value.shape, value.dtype, value.problem) for name, value in self._tensors.items()}

    def _open_zip(self):
        with zipfile.ZipFile(self.path) as archive:
            items = {item.filename.partition("/")[2]: item for item in archive.infolist()}
            if "data.pkl" not in items:
                raise UserError(f"{self.path}: a zip file without data.pkl: not a PyTorch file")
            if "byteorder" in items and archive.read(items["byteorder"]) != b"little":
                raise UserError(f"{self.path}: stored with the bytes of each number reversed (big-endian)")
            with archive.open(items["data.pkl"]) as stream:
                content = InertUnpickler(stream, encoding="utf-8").load()
        with self.path.open("rb") as stream:
            for name, item in items.items():
                if name.startswith("data/") and item.compress_type == zipfile.ZIP_STORED:
                    stream.seek(item.header_offset + 26)
                    lengths = stream.read(4)
                    start = item.header_offset + 30 + sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                    self._places[name.removeprefix("data/")] = start, item.file_size
        return content

    def _open_legacy(self):
        size = self.path.stat().st_size
        with self.path.open("rb") as stream:
            content = InertUnpickler(stream, encoding="utf-8").load()
            if content != MAGIC:
                return content
            for _ in ("protocol", "system"):
                InertUnpickler(stream, encoding="utf-8").load()
            storages: dict[str, Storage] = {}

            class Recording(InertUnpickler):
                def persistent_load(self, identifier):
                    storage = super().persistent_load(identifier)
                    return storages.setdefault(storage.key, storage)

            content = Recording(stream, encoding="utf-8").load()
            for key in InertUnpickler(stream, encoding="utf-8").load():
                count = int.from_bytes(stream.read(8), "little")
                width = np.dtype(DTYPES.get(storages[str(key)].dtype) or "u1").itemsize
                self._places[str(key)] = stream.tell(), min(count * width, size - stream.tell())
                stream.seek(count * width, 1)
        return content

    def read(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        stored = DTYPES.get(tensor.dtype)
        if tensor.problem or stored is None:
            raise UserError(f"{self.path}: {name} is {tensor.problem or 'of type ' + tensor.dtype}")
        if tensor.storage.key not in self._places:
            raise UserError(f"{self.path}: the values of {name} are missing or compressed")
        start, length = self._places[tensor.storage.key]
        width = np.dtype(stored).itemsize
        last = (
            sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
            if prod(tensor.shape)
            else -1
        )
        if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or (tensor.offset + last + 1) * width > length:
            raise UserError(f"{self.path}: truncated, or damaged: {name} lies beyond its values")
        values = np.fromfile(self.path, stored, count=last + 1, offset=start + tensor.offset * width)
        steps = [step * width for step in tensor.strides]
        values = np.lib.stride_tricks.as_strided(values, tensor.shape, steps, writeable=False)
        values = np.ascontiguousarray(values)
        return values.view(BFloat16) if tensor.dtype == "bfloat16" else values


def _state_dict(path: Path, content, key: str | None) -> dict[str, Stored]:
    found = dict(_dicts(content, ""))
    if key is not None:
        if key not in found:
            known = ", ".join(name or "(top level)" for name in found) or "none"
            raise UserError(f"{path}: no tensors under --key {key}; there are: {known}")
        return found[key]
    if not found:
        raise UserError(f"{path}: holds no tensors ({_described(content)})")
    # Beside the weights may stand a best accuracy or a step, as tensors without a matrix among them.
    weights = {name: held for name, held in found.items() if any(len(value.shape) > 1 for value in held.values())}
    found = weights or found
    if len(found) == 1:
        return next(iter(found.values()))
    for usual in ("", *USUAL):
        if usual in found:
            return found[usual]
    listed = ", ".join(f"{name} ({len(tensors)} tensors)" for name, tensors in found.items())
    raise UserError(
        f"{path}: holds several state dicts: {listed}; name one with --key, of a reference with --reference-key"
    )


def _dicts(content, path: str, depth: int = 0):
    """Every dict that holds tensors, with the keys that lead to it; a pickled module is one."""
    if isinstance(content, Inert):
        tensors = dict(_module(content, ""))
        if tensors:
            yield path, tensors
        return
    if not isinstance(content, dict) or depth > DEPTH:
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Stored)}
    if tensors:
        yield path, tensors
    for name, value in content.items():
        if not any(word in str(name).lower() for word in OTHER):
            yield from _dicts(value, f"{path}.{name}" if path else str(name), depth + 1)


def _module(module: Inert, prefix: str):
    """Parameters and buffers of a pickled torch.nn.Module, by name."""
    state = module.state if isinstance(module.state, dict) else {}
    for kind in ("_parameters", "_buffers"):
        values = state.get(kind) if isinstance(state.get(kind), dict) else {}
        yield from ((prefix + str(name), value) for name, value in values.items() if isinstance(value, Stored))
    children = state.get("_modules") if isinstance(state.get("_modules"), dict) else {}
    for name, child in children.items():
        if isinstance(child, Inert):
            yield from _module(child, f"{prefix}{name}.")


def _described(content) -> str:
    if isinstance(content, dict):
        return "a dict of " + (", ".join(map(str, list(content)[:5])) or "nothing")
    return f"a {getattr(type(content), 'named', type(content).__name__)}"
