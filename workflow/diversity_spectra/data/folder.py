"""A tree of images, one folder per class, read into a memory map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.data.tree import images_below, printable
from diversity_spectra.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from diversity_spectra.data.job import Fit

log = logging.getLogger("diversity_spectra")


def list_images(root: Path, classes: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """Image files below the folder of each class that has one (however deep), sorted, and their labels (N,).

    Raises `UserError` for a class folder without images.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = images_below(root / name) if (root / name).is_dir() else []
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def fitted(picture: Image.Image, side: int, fit: Fit = "crop") -> np.ndarray:
    """A picture made square: (side, side, C) uint8. This is the filter that every picture is scaled with.

    crop: the shorter side is scaled and the centre kept; pad: the longer one, between black bars; squash: both.
    """
    from PIL import Image, ImageOps

    size, bicubic = (side, side), Image.Resampling.BICUBIC
    if fit == "squash":
        picture = picture.resize(size, bicubic)
    else:
        picture = (ImageOps.fit if fit == "crop" else ImageOps.pad)(picture, size, bicubic)
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def open_image(path: Path) -> Image.Image | str:
    """One file as a picture in RGB, upright by EXIF; or what is wrong with it."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):
                upright = Image.fromarray(_eight_bits(upright))
            elif upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                # Transparent parts stand for paper, not for whatever colour lies beneath them.
                layers = upright.convert("RGBA")
                paper = Image.new("RGBA", layers.size, (255, 255, 255, 255))
                upright = Image.alpha_composite(paper, layers)
            return upright.convert("RGB")
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        return f"{printable(path)}: {error}"


def read_image(path: Path, side: int, fit: Fit = "crop") -> np.ndarray | str:
    """One file as (side, side, 3) uint8, as `fitted` makes it square; or what is wrong with it."""
    picture = open_image(path)
    return picture if isinstance(picture, str) else fitted(picture, side, fit)


def _eight_bits(picture: Image.Image) -> np.ndarray:
    """Pixels of more than 8 bits, (H, W) uint8: integers in 0 to 65535, floats in 0 to 1, on one scale for all pictures.

    Raises `ValueError` for pixels outside, whose scale is not known, and for NaN.
    """
    largest = 1 if picture.mode == "F" else 65535
    values = np.asarray(picture, dtype=np.float64)
    if not (values.min() >= 0 and values.max() <= largest):  # false for NaN too
        raise ValueError(
            f"pixels from {values.min():g} to {values.max():g}, not 0 to {largest}: of unknown scale; export as 8 bits"
        )
    values = values * (255 / largest)
    clear = picture.info.get("transparency")
    return np.where(np.asarray(picture) == clear, 255, np.round(values)).astype(np.uint8)


def read_images(
    files: Sequence[Path], side: int, out: Path, fit: Fit = "crop", processes: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Read files into the memory map `images.npy` (n, side, side, 3) uint8 of the folder `out`, as `fill` does."""
    return fill(out, len(files), (side, side, 3), _FileReader(files, side, fit), processes)


@dataclass(frozen=True)
class _FileReader:
    files: Sequence[Path]
    side: int
    fit: Fit

    def __call__(self, index: int) -> np.ndarray | str:
        return read_image(self.files[index], self.side, self.fit)


def fill(
    out: Path, count: int, shape: tuple[int, int, int], read: Callable[[int], np.ndarray | str], processes: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Read images 0 to count - 1, in so many processes, into the memory map `images.npy` (n, *shape) uint8 of the folder `out`.

    `read` gives an image of `shape` or says in words what is wrong with it. Each process writes into the map itself, so
    memory holds one image per process, however many there are. Returns the map cut to the readable images, and their
    numbers (n,). Others are named in the log; more than three and one in ten is a `UserError`.
    """
    images = imageset.new_images(out, (count, *shape))
    failures: dict[int, str] = {}
    with ProcessPoolExecutor(processes, initializer=_open_map, initargs=(read, out / "images.npy")) as pool:
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
