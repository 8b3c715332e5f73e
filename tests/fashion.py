"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747) from Debian's package, or a small set in the same file format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
PARTS = {"train": "train", "test": "t10k"}
CLASSES = 10

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def real() -> Arrays:
    """Images (N, 28, 28) uint8 and labels (N,) by part. Skips the test where the package is not installed."""
    if not DEBIAN.is_dir():
        pytest.skip(f"Debian's package dataset-fashion-mnist is not installed ({DEBIAN} is missing)")
    return {
        part: (
            np.frombuffer(_unpacked(f"{word}-images-idx3-ubyte"), np.uint8, offset=16).reshape(-1, 28, 28),
            np.frombuffer(_unpacked(f"{word}-labels-idx1-ubyte"), np.uint8, offset=8),
        )
        for part, word in PARTS.items()
    }


def made(per_class: dict[str, int] | None = None) -> Arrays:
    """The same from a formula: class c shows c + 1 bright bars at a random place, under noise."""
    random = np.random.default_rng(0)
    arrays: Arrays = {}
    for part, count in (per_class or {"train": 12, "test": 6}).items():
        labels = random.permutation(np.arange(CLASSES * count) % CLASSES).astype(np.uint8)
        images = random.integers(0, 90, (len(labels), 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            first = random.integers(0, 26 - 2 * label)
            image[:, first : first + 2 * (label + 1) : 2] += 150
        arrays[part] = images, labels
    return arrays


def torchvision_root(folder: Path, arrays: Arrays) -> Path:
    """Write the idx files where torchvision looks for them, unpacked; returns the root."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, (images, labels) in arrays.items():
        shape = struct.pack(">4i", 0x803, *images.shape)
        (raw / f"{PARTS[part]}-images-idx3-ubyte").write_bytes(shape + images.tobytes())
        (raw / f"{PARTS[part]}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 0x801, len(labels)) + labels.tobytes()
        )
    return folder


def class_tree(folder: Path, arrays: Arrays, per_class: dict[str, int]) -> dict[str, np.ndarray]:
    """Export the first images of every class as PNG, one folder per class; their numbers (n,) by part, class by class."""
    chosen = {}
    for part, (images, labels) in arrays.items():
        chosen[part] = np.concatenate([np.flatnonzero(labels == c)[: per_class[part]] for c in range(CLASSES)])
        for index in chosen[part]:
            place = folder / part / str(labels[index])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(place / f"{index:05d}.png")
    return chosen


def _unpacked(name: str) -> bytes:
    return gzip.decompress((DEBIAN / f"{name}.gz").read_bytes())
