"""Weights that PyTorch stores in parts: weight norm and spectral norm, put together as the layer uses them."""

from __future__ import annotations

from functools import partial

import numpy as np

PARTS = "parametrizations.weight"


class Reparametrised:
    """Tensors in which each set of parts stands as one `weight`."""

    def __init__(self, tensors):
        self.metadata = tensors.metadata
        self._tensors = tensors
        self._whole, hidden = _found(tensors)
        self.entries = {}
        for name, entry in tensors.entries.items():
            if name in hidden:
                whole = hidden[name]
                # It stands where the first of its parts stood.
                if whole is not None and whole not in self.entries:
                    self.entries[whole] = tensors.entries[self._whole[whole][0]]
            else:
                self.entries[name] = entry

    def read(self, name: str) -> np.ndarray:
        if name not in self._whole:
            return self._tensors.read(name)
        _, assemble = self._whole[name]
        return assemble(self._tensors)


def reparametrised(tensors):
    """The tensors themselves where no weight is stored in parts."""
    return Reparametrised(tensors) if _found(tensors)[0] else tensors


def _found(tensors) -> tuple[dict, dict[str, str | None]]:
    """whole name -> (name of the part of its shape, function that assembles it), and part -> whole name."""
    entries, whole, hidden = tensors.entries, {}, {}

    def add(name: str, shaped: str, assemble, *parts: str) -> None:
        whole[name] = shaped, assemble
        hidden.update(dict.fromkeys((shaped, *parts), name))

    for name in entries:
        if name.endswith("weight_g") and (v := name[:-1] + "v") in entries:
            add(name[:-2], v, partial(weight_norm, g=name, v=v), name)
        elif name.endswith("weight_orig") and f"{name[:-4]}u" in entries and f"{name[:-4]}v" in entries:
            u, v = f"{name[:-4]}u", f"{name[:-4]}v"
            add(name[:-5], name, partial(spectral_norm, weight=name, u=u, v=v), u, v)
        elif name.endswith(f"{PARTS}.original0") and (v := name[:-1] + "1") in entries:
            add(_plain(name), v, partial(weight_norm, g=name, v=v), name)
        elif name.endswith(f"{PARTS}.original"):
            u, v = (name.removesuffix("original") + f"0._{part}" for part in "uv")
            if u in entries and v in entries:
                add(_plain(name), name, partial(spectral_norm, weight=name, u=u, v=v), u, v)
    return whole, hidden


def _plain(name: str) -> str:
    return name[: name.rindex(PARTS)] + "weight"


def weight_norm(tensors, g: str, v: str) -> np.ndarray:
    """g v / |v|, the norm taken over the dimensions in which g has one value (Salimans and Kingma, arXiv 1602.07868)."""
    scale, direction = (tensors.read(name).astype(np.float64) for name in (g, v))
    axes = tuple(
        axis for axis, length in enumerate(np.broadcast_shapes(scale.shape, (1,) * direction.ndim)) if length == 1
    )
    return scale * direction / np.sqrt(np.square(direction).sum(axis=axes, keepdims=True))


def spectral_norm(tensors, weight: str, u: str, v: str) -> np.ndarray:
    """W / (u W v), as in evaluation (Miyato et al., arXiv 1802.05957)."""
    value, left, right = (tensors.read(name).astype(np.float64) for name in (weight, u, v))
    # The outputs of a transposed convolution are its second dimension.
    matrix = value if len(left) == value.shape[0] else value.swapaxes(0, 1)
    return value / (left @ matrix.reshape(len(left), -1) @ right)
