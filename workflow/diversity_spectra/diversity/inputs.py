"""What `diversity` reads: image sets or folders of images, and which of their images are variants of one picture."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.errors import UserError
from diversity_spectra.imageset import ImageSet

SHARE = 0.8  # of the smallest class, where --per-class is not given: the interval needs images that were left out


def load(path: Path, arguments: argparse.Namespace, opened: ExitStack) -> ImageSet:
    """An image set, or a folder of images, read into a temporary one that lasts as long as `opened`."""
    from diversity_spectra.contents import images_in
    from diversity_spectra.data.folder import list_images, read_images
    from diversity_spectra.data.tree import layout

    path = Path(path)
    if not path.is_dir() or (path / "images.npy").exists() or not images_in(path):
        return imageset.load(path)
    if (part := layout(path).train) != path:
        raise UserError(f"{path}: holds the parts of a data set, not its classes; name one of them, such as {part}")
    classes = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and images_in(entry))
    loose = [file for file in images_in(path) if file.parent == path]
    if classes and loose:
        raise UserError(f"{path}: {loose[0].name} lies beside the folders of classes; put it into one of them, or away")
    files, labels = list_images(path, classes) if classes else (loose, np.zeros(len(loose), dtype=np.int64))
    side = arguments.image_size or (32 if arguments.embedding == "none" else 224)
    folder = Path(opened.enter_context(TemporaryDirectory(prefix="diversity-spectra-")))
    images, kept = read_images(files, side, folder, processes=arguments.threads)
    print(f"{path}: {len(images)} images in {len(classes) or 1} classes, read at {side} px", file=sys.stderr)
    return ImageSet(images, labels[kept], {"classes": classes or ["images"]})


def load_real(arguments: argparse.Namespace, images: ImageSet, opened: ExitStack) -> dict[str, ImageSet]:
    """The sets of real images that were named, by what they are called in the tables."""
    paths = {"train": arguments.reference, "test": arguments.test}
    real = {name: load(path, arguments, opened) for name, path in paths.items() if path}
    for name, members in real.items():
        if members.classes != images.classes or members.images.shape[1:] != images.images.shape[1:]:
            raise UserError(f"{arguments.image_set}: classes or image shape differ from those of {paths[name]}")
    return real


def load_logits(path: Path, images: ImageSet) -> np.ndarray:
    try:
        logits = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{path}: not an array of logits ({error})") from None
    if not isinstance(logits, np.ndarray) or logits.shape != (len(images), len(images.classes)):
        raise UserError(f"{path}: logits must be ({len(images)}, {len(images.classes)}), one row an image")
    return logits


def sources_of(folder: Path, images: ImageSet) -> np.ndarray:
    """Number (N,) of the picture that each image is a variant of; without a manifest of copies, each its own."""
    import pandas as pd

    path = Path(folder) / "manifest.parquet"
    manifest = imageset.read_manifest(folder) if path.exists() else pd.DataFrame()
    if not {"origin", "source", "copy"} <= set(manifest):
        return np.arange(len(images))
    return manifest.groupby(["origin", "source"], sort=False).ngroup().to_numpy()


def origins_of(folder: Path, images: ImageSet, same: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin, copy, and number of the plain set's picture (negative: none of them) of every image (N,)."""
    import pandas as pd

    path = Path(folder) / "manifest.parquet"
    manifest = imageset.read_manifest(folder) if path.exists() else pd.DataFrame()
    number = np.arange(len(images))
    if not {"origin", "source", "copy"} <= set(manifest):
        return (
            np.full(len(images), "real" if same else "generated"),
            np.zeros(len(images), int),
            number if same else -1 - number,
        )
    origin = manifest["origin"].to_numpy(dtype=str)
    picture = np.where(origin == "real", manifest["source"], -1 - manifest["source"])
    return origin, manifest["copy"].to_numpy(), picture


def largest_sample(images: ImageSet, sources: np.ndarray) -> int:
    """The share of the smallest class that is drawn unless a number is asked for, at least 2."""
    from diversity_spectra.diversity.vendi import class_sizes

    return max(2, int(SHARE * class_sizes(images.labels, images.classes, sources).min()))
