"""The policy AugMix."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, in_colour


@augmentation("severity of AugMix", int, ge=1, le=10)
def augmix(image: Image, severity: float, generator: Generator) -> Image:
    """AugMix of this severity, of 10 (Hendrycks et al. 2020, arXiv 1912.02781)."""
    from torchvision.transforms import v2

    return in_colour(v2.AugMix(severity=int(severity)), image, generator)
