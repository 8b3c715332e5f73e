"""What sources of synthetic images share."""

from __future__ import annotations

import math

import numpy as np


def pieces(indices: np.ndarray, batch: int, tile: int) -> list[np.ndarray]:
    """Indices (N,) in pieces of `batch`, rounded up to whole tiles."""
    size = tile * math.ceil(batch / tile)
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def is_blank(image: np.ndarray) -> bool:
    """An image of one colour: what a safety checker returns, or a generator that failed."""
    return int(image.max()) - int(image.min()) < 8
