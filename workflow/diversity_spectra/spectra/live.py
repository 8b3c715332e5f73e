"""A network in memory as a source of named tensors: a torch module, a state dict, or a mapping of arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.tensors import WRAPPER, BFloat16, Entry, Tensors, unwrapped, wrapped


class Live:
    """Named tensors that are in memory; each is copied to the CPU when it is read, and only then.

    source: name -> array or torch tensor on any device. Torch itself is not imported here: whoever has its tensors has it.
    """

    def __init__(self, source: Mapping[str, object]):
        self.metadata: dict[str, str] = {}
        self._source = {str(name): value for name, value in source.items() if hasattr(value, "shape")}
        self.entries = {
            name: Entry(tuple(value.shape), str(value.dtype).removeprefix("torch."))
            for name, value in self._source.items()
        }

    def read(self, name: str) -> np.ndarray:
        value = self._source[name]
        if not hasattr(value, "detach"):
            return np.asarray(value)
        value = value.detach().cpu().contiguous()
        if self.entries[name].dtype != "bfloat16":
            return value.numpy()
        # NumPy has no such type; these are its bits.
        return value.view(_sixteen_bits(value)).numpy().view(np.uint16).view(BFloat16)


def _sixteen_bits(tensor: object) -> object:
    """torch.int16, from where the tensor's own type comes from."""
    import sys

    return sys.modules["torch"].int16


def live(model: object) -> Tensors:
    """A torch module (its state dict) or a mapping of names to arrays; what torch.compile or DDP put before all names is left
    out, as of files. Raises `UserError` for anything else."""
    state = model.state_dict() if hasattr(model, "state_dict") else model
    if not isinstance(state, Mapping):
        raise UserError(f"a model is a path, a torch module or a state dict, not {type(model).__name__}")
    return unwrapped(Live(state))


def groups_of(model: object) -> tuple[str, ...]:
    """`PARAMETER=N` for the grouped convolutions of a torch module, which knows what a file of weights does not say."""
    if not hasattr(model, "named_modules"):
        return ()
    known = {
        f"{name}.weight".lstrip("."): module.groups
        for name, module in model.named_modules()
        if getattr(module, "groups", 1) > 1 and getattr(getattr(module, "weight", None), "ndim", 0) > 2
    }
    if wrapped(model.state_dict()):
        known = {WRAPPER.sub("", name): groups for name, groups in known.items()}
    return tuple(f"{name}={groups}" for name, groups in known.items())
