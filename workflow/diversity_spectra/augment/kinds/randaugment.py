"""The policy RandAugment."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, in_colour


@augmentation("magnitude of RandAugment (2 operations)", int, ge=1, le=30)
def randaugment(image: Image, magnitude: float, generator: Generator) -> Image:
    """RandAugment with 2 operations of this magnitude, of 30 (Cubuk et al. 2020, arXiv 1909.13719)."""
    from torchvision.transforms import v2

    return in_colour(v2.RandAugment(num_ops=2, magnitude=int(magnitude)), image, generator)
