"""What sources of synthetic images share."""

from __future__ import annotations

import numpy as np


def is_blank(image: np.ndarray) -> bool:
    """An image (H, W, C) uint8 of one colour: what a safety checker returns, or a generator that failed."""
    return bool((np.ptp(image, axis=(0, 1)) < 8).all())


def pixels(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) of floats in [0, 1] as uint8; blank, and so rejected, where one of them is not finite."""
    if not np.isfinite(image).all():
        return np.zeros(image.shape, np.uint8)
    return (image * 255).round().clip(0, 255).astype(np.uint8)
