"""Vertical flip."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, chance


@augmentation("share of the images that are flipped", gt=0, le=1)
def vertical_flip(image: Image, share: float, generator: Generator) -> Image:
    """Mirror upside down."""
    from torchvision.transforms.v2 import functional

    return functional.vertical_flip(image) if chance(share, generator) else image
