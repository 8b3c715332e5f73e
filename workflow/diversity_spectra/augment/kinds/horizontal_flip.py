"""Horizontal flip."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, chance


@augmentation("share of the images that are flipped", gt=0, le=1)
def horizontal_flip(image: Image, share: float, generator: Generator) -> Image:
    """Mirror left to right."""
    from torchvision.transforms.v2 import functional

    return functional.horizontal_flip(image) if chance(share, generator) else image
