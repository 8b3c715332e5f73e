"""Erased rectangles."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, with_seed


@augmentation("largest share of the area erased", gt=0, lt=1)
def random_erasing(image: Image, largest: float, generator: Generator) -> Image:
    """Erase a rectangle of 2 % to `largest` of the area in every second image (Zhong et al. 2020)."""
    from torchvision.transforms import v2

    return with_seed(v2.RandomErasing(p=0.5, scale=(min(0.02, largest), largest)), image, generator)
