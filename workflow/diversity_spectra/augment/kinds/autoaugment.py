"""The policy AutoAugment."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, chance, in_colour


@augmentation("share of the images that the policy is applied to", gt=0, le=1)
def autoaugment(image: Image, share: float, generator: Generator) -> Image:
    """AutoAugment's policy for ImageNet (Cubuk et al. 2019, arXiv 1805.09501), as torchvision has it."""
    from torchvision.transforms import v2

    return in_colour(v2.AutoAugment(), image, generator) if chance(share, generator) else image
