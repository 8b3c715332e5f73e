"""Corruptions of a test set: kind x severity 1 to 5, in the spirit of ImageNet-C (Hendrycks and Dietterich 2019).

Drawn with torchvision's transforms.v2: it is maintained with torch, needs no further package and works on tensors. The
older `imagecorruptions` package draws from NumPy's global state and does not run on NumPy 2.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np

from diversity_spectra.seeds import derive_seed

# Severity 1 to 5, in the units of each function below.
LEVELS = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # sigma, in units of the pixel range
    "gaussian_blur": (0.02, 0.03, 0.045, 0.06, 0.08),  # sigma, in units of the image's side
    "contrast": (0.7, 0.55, 0.4, 0.25, 0.12),  # factor
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added, in units of the pixel range
    "pixelate": (0.7, 0.55, 0.45, 0.35, 0.25),  # side kept, as a factor
    "jpeg": (25, 18, 12, 8, 5),  # quality
    "rotation": (10, 20, 30, 45, 60),  # largest angle, degrees
}


def corrupt(images: np.ndarray, kind: str, severity: int, seed: int) -> Iterator[np.ndarray]:
    """Images (H, W, C) uint8 of (N, H, W, C), corrupted one after another.

    Each has a seed of its own position, the corruption and the severity.
    """
    level = LEVELS[kind][severity - 1]
    for index, image in enumerate(images):
        yield _corrupt_one(
            image, kind, level, np.random.default_rng(derive_seed(seed, "corrupt", kind, severity, index))
        )


def _corrupt_one(image: np.ndarray, kind: str, level: float, random: np.random.Generator) -> np.ndarray:
    """One image (H, W, C) uint8 -> the same shape."""
    import torch
    from torchvision.transforms.v2 import functional

    height, width = image.shape[:2]
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255  # (C, H, W)
    if kind == "gaussian_noise":
        noise = random.normal(size=tensor.shape).astype(np.float32)
        tensor = tensor + level * torch.from_numpy(noise)
    elif kind == "gaussian_blur":
        sigma = level * height
        tensor = functional.gaussian_blur(tensor, [2 * int(np.ceil(3 * sigma)) + 1] * 2, [sigma, sigma])
    elif kind == "contrast":
        tensor = (tensor - tensor.mean()) * level + tensor.mean()
    elif kind == "brightness":
        tensor = tensor + level
    elif kind == "pixelate":
        small = [max(1, round(height * level)), max(1, round(width * level))]
        tensor = functional.resize(tensor, small, antialias=True)
        tensor = functional.resize(tensor, [height, width], interpolation=functional.InterpolationMode.NEAREST)
    elif kind == "rotation":
        tensor = functional.rotate(tensor, random.uniform(-level, level), functional.InterpolationMode.BILINEAR)
    elif kind == "jpeg":
        return _jpeg(image, int(level))
    return (tensor.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    buffer = io.BytesIO()
    grey = image.shape[2] == 1
    Image.fromarray(image[..., 0] if grey else image).save(buffer, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(buffer))
    return decoded[..., None] if grey else decoded
