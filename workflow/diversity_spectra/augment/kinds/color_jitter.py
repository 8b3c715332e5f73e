"""Brightness, contrast, saturation."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, with_seed


@augmentation("strength of brightness, contrast, saturation", gt=0, le=1)
def color_jitter(image: Image, strength: float, generator: Generator) -> Image:
    """Change brightness and contrast, and saturation of colour images, by factors of 1 - strength to 1 + strength."""
    from torchvision.transforms import v2

    colour = strength if image.shape[0] == 3 else 0
    return with_seed(v2.ColorJitter(brightness=strength, contrast=strength, saturation=colour), image, generator)
