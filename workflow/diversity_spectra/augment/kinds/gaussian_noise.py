"""Gaussian noise."""

from __future__ import annotations

from diversity_spectra.augment.kinds import Generator, Image, augmentation


@augmentation("sigma, in units of the pixel range", gt=0, le=2)
def gaussian_noise(image: Image, sigma: float, generator: Generator) -> Image:
    """Add noise of standard deviation `sigma`, in units of the pixel range, and clip."""
    import torch

    noise = torch.randn(image.shape, generator=generator)
    return (image + 255 * sigma * noise).clamp(0, 255).round().byte()
