"""torchvision's classification data sets by name, whatever their constructor looks like."""

from __future__ import annotations

import copy
import inspect
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from diversity_spectra import imageset
from diversity_spectra.data.folder import fill, fitted
from diversity_spectra.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

# What the sets call their parts, the first that a set knows.
SPLITS = {"train": ("train", "trainval"), "test": ("test", "val", "valid")}


def open_set(name: str, root: str, split: str, download: bool) -> VisionDataset:
    """One part of a data set: `split` test, or train for everything else.

    What is missing from `root` is downloaded by torchvision's own code if `download`. Raises `UserError` for an unknown
    name, a set without a test part, missing files, or a failed download.
    """
    from torchvision import datasets

    maker = getattr(datasets, name, None)
    if not inspect.isclass(maker) or not issubclass(maker, datasets.VisionDataset):
        raise UserError(f"torchvision has no data set {name!r}")
    known = inspect.signature(maker.__init__).parameters
    part = "test" if split == "test" else "train"
    if name == "EMNIST":
        choices = [{"split": "balanced", "train": part == "train"}]
    elif "train" in known:
        choices = [{"train": part == "train"}]
    elif "split" in known:
        choices = [{"split": word} for word in SPLITS[part]]
    else:
        raise UserError(f"{name}: torchvision gives it no test part; export it as class folders and use image_folder")
    # EMNIST and ImageNet hand their options on to a class that they are made of.
    download &= "download" in known or name == "EMNIST"
    if download:
        Path(root).mkdir(parents=True, exist_ok=True)
    # Several jobs may want the same files: one downloads, the others wait. Where nothing can be written none does.
    with FileLock(Path(root) / f".{name}.lock") if os.access(root, os.W_OK) else nullcontext():
        for options in choices:
            try:
                return _made(maker, root, options, download)
            except Exception as error:  # the sets' readers raise many kinds
                if isinstance(error, ValueError) and options is not choices[-1]:
                    continue  # a part that this set does not know
                reason = str(error).split("\n")[0] or type(error).__name__
                tried = "the download failed" if download else "nothing was downloaded"
                raise UserError(f"{name}: cannot be read from {root} and {tried} ({reason})") from None
    raise AssertionError("unreachable: every data set has a part to try")


def _made(maker: type[VisionDataset], root: str, options: dict, download: bool) -> VisionDataset:
    try:
        return maker(root, **options)
    except (OSError, RuntimeError):
        if not download:
            raise
    return maker(root, download=True, **options)


def labels_of(data: VisionDataset) -> np.ndarray:
    """Labels (N,) int64. Sets that do not publish theirs are gone through, without their images where that is possible."""
    labels = getattr(data, "targets", getattr(data, "labels", None))
    if labels is None:
        data = copy.copy(data)
        if hasattr(data, "loader"):
            data.loader = lambda path: None
        labels = [data[index][1] for index in range(len(data))]
    labels = np.asarray(labels)
    if labels.shape != (len(data),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{type(data).__name__}: not a classification data set with one class per image")
    return labels.astype(np.int64)


def classes_of(data: VisionDataset, labels: np.ndarray) -> list[str]:
    """Names of the classes; ImageNet and Imagenette give several to each."""
    names = getattr(data, "classes", None) or range(labels.max() + 1)
    return [", ".join(name) if isinstance(name, tuple) else str(name) for name in names]


def write(
    data: VisionDataset, chosen: np.ndarray, side: int | None, out: Path, processes: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Images `chosen` (n,) as the memory map `images.npy` (n, H, W, C) uint8 of the folder `out`, and their numbers.

    As they are, or fitted to `side`; sets kept as image files need one. Raises `UserError` where it is missing.
    """
    pixels = _pixels(data)
    if pixels is not None and side in (None, pixels.shape[1]):
        return imageset.copy(out, pixels, chosen), chosen
    if side is None:
        raise UserError(f"{type(data).__name__}: its images are files of their own sizes; set data.image_size")
    depth = 3 if pixels is None else pixels.shape[3]
    reader = _Reader(data, chosen, side, "L" if depth == 1 else "RGB")
    images, kept = fill(out, len(chosen), (side, side, depth), reader, processes)
    return images, chosen[kept]


@dataclass(frozen=True)
class _Reader:
    data: VisionDataset
    chosen: np.ndarray
    side: int
    mode: str

    def __call__(self, index: int) -> np.ndarray | str:
        try:
            return fitted(self.data[int(self.chosen[index])][0].convert(self.mode), self.side)
        except (OSError, ValueError) as error:
            return f"{type(self.data).__name__}, image {self.chosen[index]}: {error}"


def _pixels(data: VisionDataset) -> np.ndarray | None:
    """Images (N, H, W, C) of a set that is kept as one array."""
    pixels = getattr(data, "data", None)
    if not hasattr(pixels, "shape"):
        return None
    images = np.asarray(pixels)
    if images.ndim == 3:
        return images[..., None]
    # SVHN and STL10 keep (N, C, H, W).
    return images.transpose(0, 2, 3, 1) if images.shape[1] in (1, 3) and images.shape[3] not in (1, 3) else images
