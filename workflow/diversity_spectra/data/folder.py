"""A tree of images, one folder per class, read into a memory map."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}

log = logging.getLogger("diversity_spectra")


def list_classes(root: Path) -> list[str]:
    """Names of the class folders, sorted. Raises `UserError` where there are none."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    classes = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise UserError(f"{root}: expected one folder per class, found none")
    return classes


def list_images(root: Path, classes: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """Image files below each class folder (however deep), sorted, and their labels (N,).

    Raises `UserError` for a class without images.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (root / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise UserError(f"{root / name}: no images in this class folder")
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def read_image(path: Path, side: int) -> np.ndarray | str:
    """One file as (side, side, 3) uint8: upright by EXIF, shorter side scaled to `side`, centre cropped; or the error."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                # Transparent parts stand for paper, not for whatever colour lies beneath them.
                layers = upright.convert("RGBA")
                paper = Image.new("RGBA", layers.size, (255, 255, 255, 255))
                upright = Image.alpha_composite(paper, layers)
            elif upright.mode.startswith(("I;16", "I", "F")):
                values = np.asarray(upright, dtype=np.float64)
                upright = Image.fromarray((255 * values / max(values.max(), 1)).astype(np.uint8))
            fitted = ImageOps.fit(upright.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
            return np.asarray(fitted)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        return f"{path}: {error}"


def read_images(files: Sequence[Path], side: int, out: Path, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Read files in parallel into the memory map `images.npy` (N, side, side, 3) uint8 of the folder `out`.

    Returns the map cut to the readable images and the indices (n,) of the files that were read. Files that cannot be
    read are named in the log; more than three and one in ten is a `UserError`.
    """
    images = imageset.new_images(out, (len(files), side, side, 3))
    kept: list[int] = []
    failures: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        for index, image in enumerate(pool.map(partial(read_image, side=side), files, chunksize=16)):
            if isinstance(image, str):
                failures.append(image)
                log.warning("unreadable image left out: %s", image)
            else:
                images[len(kept)] = image
                kept.append(index)
            if (index + 1) % 5000 == 0:
                log.info("%d of %d images", index + 1, len(files))
    if len(failures) > max(3, len(files) / 10):
        raise UserError(f"{len(failures)} of {len(files)} images cannot be read, the first: {failures[0]}")
    images.flush()
    if failures:
        return np.array(images[: len(kept)]), np.array(kept)
    return images, np.array(kept)
