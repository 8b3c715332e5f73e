"""Augmentations, one function per kind: (image (C, H, W) uint8 tensor, level, generator) -> image of the same shape.

To add a kind: write a function here, register it, and add a field with its unit to `config.Augmentation`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

Augmentation = Callable[[torch.Tensor, float, torch.Generator], torch.Tensor]
KINDS: dict[str, Augmentation] = {}


def augmentation(function: Augmentation) -> Augmentation:
    """Register a kind of augmentation under the function's name."""
    KINDS[function.__name__] = function
    return function


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _with_seed(transform: Callable, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Call a torchvision transform, which draws from the global state, with that state set from `generator`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return transform(image)


@augmentation
def gaussian_noise(image: torch.Tensor, sigma: float, generator: torch.Generator) -> torch.Tensor:
    """Add noise of standard deviation `sigma`, in units of the pixel range, and clip."""
    noise = torch.randn(image.shape, generator=generator)
    return (image + 255 * sigma * noise).clamp(0, 255).round().byte()


@augmentation
def rotation(image: torch.Tensor, degrees: float, generator: torch.Generator) -> torch.Tensor:
    """Rotate by an angle drawn from -degrees to degrees; corners are filled with 0."""
    return functional.rotate(image, _uniform(-degrees, degrees, generator), functional.InterpolationMode.BILINEAR)


@augmentation
def resized_crop(image: torch.Tensor, smallest: float, generator: torch.Generator) -> torch.Tensor:
    """Crop `smallest` to 1 of the area, aspect 3/4 to 4/3, and scale back (Szegedy et al. 2015)."""
    crop = v2.RandomResizedCrop(image.shape[-2:], scale=(smallest, 1.0), antialias=True)
    return _with_seed(crop, image, generator)


@augmentation
def random_erasing(image: torch.Tensor, largest: float, generator: torch.Generator) -> torch.Tensor:
    """Erase a rectangle of 2 % to `largest` of the area in every second image (Zhong et al. 2020)."""
    return _with_seed(v2.RandomErasing(p=0.5, scale=(min(0.02, largest), largest)), image, generator)


@augmentation
def color_jitter(image: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Change brightness and contrast, and saturation of colour images, by factors of 1 - strength to 1 + strength."""
    colour = strength if image.shape[0] == 3 else 0
    return _with_seed(v2.ColorJitter(brightness=strength, contrast=strength, saturation=colour), image, generator)


@augmentation
def randaugment(image: torch.Tensor, magnitude: float, generator: torch.Generator) -> torch.Tensor:
    """RandAugment with 2 operations of this magnitude, of 30 (Cubuk et al. 2020, arXiv 1909.13719)."""
    return _in_colour(v2.RandAugment(num_ops=2, magnitude=int(magnitude)), image, generator)


@augmentation
def augmix(image: torch.Tensor, severity: float, generator: torch.Generator) -> torch.Tensor:
    """AugMix of this severity, of 10 (Hendrycks et al. 2020, arXiv 1912.02781)."""
    return _in_colour(v2.AugMix(severity=int(severity)), image, generator)


def _in_colour(transform: Callable, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Policies hold colour operations: grey images pass through them as three equal channels."""
    changed = _with_seed(transform, image.expand(3, -1, -1), generator)
    return changed[: image.shape[0]]
