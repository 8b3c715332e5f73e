"""Augmentations, one module per kind: (image (C, H, W) uint8 tensor, level, generator) -> image of the same shape.

To add a kind is to add a module here: its function registers itself under its own name, with what its level means and
the limits of that level, and the configuration takes its keys from this registry. Planning reads these modules, so
torch and torchvision are imported inside the functions. A training set depends on the modules of its own kinds only.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from diversity_spectra.errors import UserError

Image: TypeAlias = "torch.Tensor"  # noqa: F821 (torch is not imported at planning)
Generator: TypeAlias = "torch.Generator"  # noqa: F821
Augmentation: TypeAlias = Callable[[Image, float, Generator], Image]


@dataclass(frozen=True)
class Kind:
    """A kind of augmentation: what it does to an image, and the levels it takes."""

    apply: Augmentation
    meaning: str  # of the level, with its unit
    type: type  # of the level in the configuration
    limits: dict[str, float]  # of the level, by their names in LIMITS
    falling: bool = False  # whether a smaller level changes the image more

    @property
    def module(self) -> str:
        """Where it is defined, below the package."""
        return self.apply.__module__.partition(".")[2]


KINDS: dict[str, Kind] = {}
LIMITS = ("gt", "ge", "lt", "le")  # as pydantic names them
TAKES = ("image", "level", "generator")
# What Python adds to a wrong name in an import from this package, which is still being imported itself.
CIRCULAR = re.compile(r"partially initialized module | \(most likely due to a circular import\).*")


def augmentation(
    meaning: str, type: type = float, falling: bool = False, **limits: float
) -> Callable[[Augmentation], Augmentation]:
    """Register a kind of augmentation under its function's name; see `Kind`."""
    if unknown := sorted(limits.keys() - set(LIMITS)):
        raise UserError(f"unknown limit {unknown[0]!r}; known here: {', '.join(LIMITS)}")

    def register(function: Augmentation) -> Augmentation:
        name, takes = function.__name__, len(inspect.signature(function).parameters)
        if name in KINDS and KINDS[name].apply.__module__ != function.__module__:
            raise UserError(f"{KINDS[name].module} has a kind {name!r} too; one of them needs another name")
        if takes != len(TAKES):
            raise UserError(f"{name} takes {takes} arguments, not {', '.join(TAKES)}")
        KINDS[name] = Kind(function, meaning, type, limits, falling)
        return function

    return register


def uniform(low: float, high: float, generator: Generator) -> float:
    import torch

    return low + (high - low) * torch.rand((), generator=generator).item()


def chance(share: float, generator: Generator) -> bool:
    """Whether an image is among this share of all."""
    return uniform(0, 1, generator) < share


def with_seed(transform: Callable[[Image], Image], image: Image, generator: Generator) -> Image:
    """Call a torchvision transform, which draws from the global state, with that state set from `generator`."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return transform(image)


def in_colour(transform: Callable[[Image], Image], image: Image, generator: Generator) -> Image:
    """Policies hold colour operations: grey images pass through them as three equal channels."""
    changed = with_seed(transform, image.expand(3, -1, -1), generator)
    return changed[: image.shape[0]]


def _load(module: pkgutil.ModuleInfo) -> None:
    """Import a kind. Raises `UserError` with the file and line of a mistake in it."""
    try:
        importlib.import_module(module.name)
    except Exception as error:
        file = module.module_finder.find_spec(module.name).origin
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = getattr(error, "lineno", lines[-1] if lines else 1)
        reason = CIRCULAR.sub("", getattr(error, "msg", "") or str(error) or type(error).__name__)
        raise UserError(f"{os.path.relpath(file)}, line {line}: {reason}") from None


for module in pkgutil.iter_modules(__path__, f"{__name__}."):
    _load(module)
