"""Rotation."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, uniform


@augmentation("largest angle, degrees", gt=0, le=180)
def rotation(image: Image, degrees: float, generator: Generator) -> Image:
    """Rotate by an angle drawn from -degrees to degrees; corners are filled with 0."""
    from torchvision.transforms.v2 import functional

    return functional.rotate(image, uniform(-degrees, degrees, generator), functional.InterpolationMode.BILINEAR)
