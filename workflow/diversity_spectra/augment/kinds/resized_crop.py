"""Crop and scale back."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, with_seed


@augmentation("smallest share of the area kept", falling=True, gt=0, lt=1)
def resized_crop(image: Image, smallest: float, generator: Generator) -> Image:
    """Crop `smallest` to 1 of the area, aspect 3/4 to 4/3, and scale back (Szegedy et al. 2015)."""
    from torchvision.transforms import v2

    crop = v2.RandomResizedCrop(image.shape[-2:], scale=(smallest, 1.0), antialias=True)
    return with_seed(crop, image, generator)
