"""Image sets: the one format in which images travel between stages.

A folder with `images.npy` (N, H, W, C) uint8, `labels.npy` (N,) int64, `manifest.parquet` (one row per image: where it
came from) and `meta.json` (class names, source, how it was made). A training set may come without `images.npy`: then its
images are made when they are read, and `meta.json` has their shape.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

FILES = ("images.npy", "labels.npy", "manifest.parquet", "meta.json")
BLOCK = 2**24  # bytes copied at a time


@dataclass(frozen=True)
class ImageSet:
    """Images (N, H, W, C) uint8, possibly memory-mapped; labels (N,) int64 indexing `meta["classes"]`.

    Images that are made when they are read are `augment.variants.Variants`, which are indexed in the same way.
    """

    images: np.ndarray
    labels: np.ndarray
    meta: dict

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> list[str]:
        return self.meta["classes"]


def load(folder: str | Path) -> ImageSet:
    """Open an image set; the images stay on disk (memory map) until they are touched."""
    folder = Path(folder)
    try:
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        meta = json.loads((folder / "meta.json").read_text())
        if "shape" in meta:
            # By a name that is put together: this code is part of the set's own key, and of no other that reads sets.
            images = importlib.import_module(f"{__package__}.augment.variants").open_variants(folder)
        else:
            images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: not an image set, {Path(error.filename).name} is missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{folder}: damaged image set ({error}); delete the folder and run again") from None
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(labels):
        raise UserError(
            f"{folder}: images.npy must be (N, H, W, C) uint8 with one label each, "
            f"found {images.shape} {images.dtype} and {len(labels)} labels"
        )
    return ImageSet(images, labels, meta)


def read(images: np.ndarray, batches: Iterable[np.ndarray], workers: int = 0) -> Iterator[np.ndarray]:
    """Images (B, H, W, C) at each of `batches` of rows (B,), in order.

    Where they are made when they are read, so many processes make them ahead of the reader.
    """
    if hasattr(images, "read"):
        return images.read(batches, workers)
    return (images[rows] for rows in batches)


def per_class(labels: np.ndarray, classes: list[str]) -> dict[str, int]:
    """Images of every class, of labels (N,)."""
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def read_manifest(folder: str | Path) -> pd.DataFrame:
    import pandas as pd

    return pd.read_parquet(Path(folder) / "manifest.parquet")


def new_images(folder: Path, shape: tuple[int, int, int, int]) -> np.ndarray:
    """A writable memory map `folder/images.npy` of `shape` (N, H, W, C) uint8, with its room on the disk taken.

    Raises `OSError` where the disk is too full; writing to a map without room would end the process without a word.
    """
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    with (folder / "images.npy").open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
    return images


def copy(folder: Path, images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Copy images `chosen` (n,) of `images` (N, H, W, C) into the memory map `folder/images.npy`, block by block."""
    copied = new_images(folder, (len(chosen), *images.shape[1:]))
    size = max(1, BLOCK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(chosen), size):
        copied[start : start + size] = images[chosen[start : start + size]]
    copied.flush()
    return copied


def cut(folder: Path, kept: np.ndarray) -> np.ndarray:
    """Cut the memory map `folder/images.npy` down to the images `kept` (n,)."""
    whole = (folder / "images.npy").replace(folder / "whole.npy")
    images = copy(folder, np.load(whole, mmap_mode="r", allow_pickle=False), kept)
    whole.unlink()
    return images


def save(folder: Path, images: np.ndarray, labels: np.ndarray, manifest: pd.DataFrame, meta: dict) -> None:
    """Write an image set into an existing folder.

    `images` may already be the memory map of `folder/images.npy`, in which case only the rest is written.
    """
    if not (isinstance(images, np.memmap) and Path(images.filename) == (folder / "images.npy").resolve()):
        np.save(folder / "images.npy", np.ascontiguousarray(images, dtype=np.uint8))
    save_around(folder, labels, manifest, meta)


def save_around(folder: Path, labels: np.ndarray, manifest: pd.DataFrame, meta: dict) -> None:
    """Write what an image set has beside its images, which are there already or are made when they are read."""
    np.save(folder / "labels.npy", np.asarray(labels, dtype=np.int64))
    manifest.to_parquet(folder / "manifest.parquet", index=False)
    (folder / "meta.json").write_text(json.dumps(meta, indent=2, sort_keys=True) + "\n")
