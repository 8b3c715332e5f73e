"""Augmentations, one module per kind: (image (C, H, W) uint8 tensor, level, generator) -> image of the same shape.

To add a kind is to add a module here: its function registers itself under its own name, with what its level means and
the limits of that level, and the configuration takes its keys from this registry. Planning reads these modules, so
torch and torchvision are imported inside the functions. A training set depends on the modules of its own kinds only.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Image: TypeAlias = "torch.Tensor"  # noqa: F821 (torch is not imported at planning)
Generator: TypeAlias = "torch.Generator"  # noqa: F821
Augmentation: TypeAlias = Callable[[Image, float, Generator], Image]


@dataclass(frozen=True)
class Kind:
    """A kind of augmentation: what it does to an image, and the levels it takes."""

    apply: Augmentation
    meaning: str  # of the level, with its unit
    type: type  # of the level in the configuration
    limits: dict[str, float]  # of the level, as pydantic names them: gt, ge, lt, le
    falling: bool = False  # whether a smaller level changes the image more


KINDS: dict[str, Kind] = {}


def augmentation(
    meaning: str, type: type = float, falling: bool = False, **limits: float
) -> Callable[[Augmentation], Augmentation]:
    """Register a kind of augmentation under its function's name; see `Kind`."""

    def register(function: Augmentation) -> Augmentation:
        KINDS[function.__name__] = Kind(function, meaning, type, limits, falling)
        return function

    return register


def uniform(low: float, high: float, generator: Generator) -> float:
    import torch

    return low + (high - low) * torch.rand((), generator=generator).item()


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


for module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(module.name)
