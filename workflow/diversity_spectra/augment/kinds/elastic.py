"""Elastic deformation."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, with_seed

SMOOTHNESS = 6.0  # sigma, pixels


@augmentation("strength alpha of the displacements, smoothed over 6 pixels", gt=0, le=1000)
def elastic(image: Image, alpha: float, generator: Generator) -> Image:
    """Random displacements, smoothed (Simard, Steinkraus and Platt 2003), as torchvision's ElasticTransform."""
    from torchvision.transforms import v2

    return with_seed(v2.ElasticTransform(alpha=alpha, sigma=SMOOTHNESS), image, generator)
