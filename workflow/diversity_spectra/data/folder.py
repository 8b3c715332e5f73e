"""A tree of images, one folder per class, read into a memory map."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.data.tree import images_below
from diversity_spectra.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger("diversity_spectra")


def list_images(root: Path, classes: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """Image files below each class folder (however deep), sorted, and their labels (N,).

    Raises `UserError` for a class without images.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = images_below(root / name)
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def fitted(picture: Image.Image, side: int) -> np.ndarray:
    """A picture scaled by its shorter side and centre cropped: (side, side, C) uint8."""
    from PIL import Image, ImageOps

    pixels = np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC))
    return pixels if pixels.ndim == 3 else pixels[..., None]


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
            return fitted(upright.convert("RGB"), side)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        return f"{path}: {error}"


def read_images(files: Sequence[Path], side: int, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read files into the memory map `images.npy` (n, side, side, 3) uint8 of the folder `out`, as `fill` does."""
    return fill(out, len(files), (side, side, 3), _FileReader(files, side))


@dataclass(frozen=True)
class _FileReader:
    files: Sequence[Path]
    side: int

    def __call__(self, index: int) -> np.ndarray | str:
        return read_image(self.files[index], self.side)


def fill(
    out: Path, count: int, shape: tuple[int, int, int], read: Callable[[int], np.ndarray | str]
) -> tuple[np.ndarray, np.ndarray]:
    """Read images 0 to count - 1, on all cores, into the memory map `images.npy` (n, *shape) uint8 of the folder `out`.

    `read` gives an image of `shape` or says in words what is wrong with it. Each process writes into the map itself, so
    memory holds one image per process, however many there are. Returns the map cut to the readable images, and their
    numbers (n,). Others are named in the log; more than three and one in ten is a `UserError`.
    """
    images = imageset.new_images(out, (count, *shape))
    failures: dict[int, str] = {}
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)), initializer=_open_map, initargs=(read, out / "images.npy")
    ) as pool:
        for index, problem in enumerate(pool.map(_read_into_map, range(count), chunksize=16)):
            if problem:
                failures[index] = problem
                log.warning("unreadable image left out: %s", problem)
            if (index + 1) % 5000 == 0:
                log.info("%d of %d images", index + 1, count)
    if len(failures) > max(3, count / 10):
        raise UserError(f"{len(failures)} of {count} images cannot be read, the first: {next(iter(failures.values()))}")
    images.flush()
    kept = np.setdiff1d(np.arange(count), list(failures))
    return imageset.cut(out, kept) if failures else images, kept


_read: Callable[[int], np.ndarray | str]
_map: np.ndarray


def _open_map(read: Callable[[int], np.ndarray | str], path: Path) -> None:
    """What a process of the pool keeps from one image to the next."""
    global _read, _map
    _read, _map = read, np.load(path, mmap_mode="r+", allow_pickle=False)


def _read_into_map(index: int) -> str:
    """Write one image into the map; words where it cannot be read."""
    image = _read(index)
    if isinstance(image, str):
        return image
    _map[index] = image
    return ""
