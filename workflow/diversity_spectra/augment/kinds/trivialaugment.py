"""The policy TrivialAugment."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation, chance, in_colour


@augmentation("share of the images that the policy is applied to", gt=0, le=1)
def trivialaugment(image: Image, share: float, generator: Generator) -> Image:
    """TrivialAugment in its wide form (Mueller and Hutter 2021, arXiv 2103.10158), as torchvision has it."""
    from torchvision.transforms import v2

    return in_colour(v2.TrivialAugmentWide(), image, generator) if chance(share, generator) else image
