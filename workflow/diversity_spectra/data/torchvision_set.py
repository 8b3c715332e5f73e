"""torchvision's classification data sets by name, whatever their constructor looks like."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
from filelock import FileLock

from diversity_spectra.errors import UserError


def read(name: str, root: str, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, H, W, C) uint8, labels (N,), class names; `split` test, or train for everything else.

    What is missing from `root` is downloaded by torchvision's own code. Raises `UserError` for an unknown name, images
    of several sizes, or a failed download.
    """
    from torchvision import datasets

    maker = getattr(datasets, name, None)
    if not inspect.isclass(maker) or not issubclass(maker, datasets.VisionDataset):
        raise UserError(f"torchvision has no data set {name!r}")
    known = inspect.signature(maker.__init__).parameters
    options: dict = {}
    if "train" in known:
        options["train"] = split != "test"
    elif "split" in known:
        options["split"] = {"Imagenette": "val"}.get(name, "test") if split == "test" else "train"
    if name == "EMNIST":
        options = {"split": "balanced", "train": split != "test"}
    Path(root).mkdir(parents=True, exist_ok=True)
    # Several jobs may want the same files: one downloads, the others wait.
    with FileLock(Path(root) / f".{name}.lock"):
        try:
            data = maker(root, **options)
        except (RuntimeError, FileNotFoundError):
            if "download" not in known:
                raise UserError(f"{name}: put its files into {root}; torchvision cannot download this set") from None
            try:
                data = maker(root, download=True, **options)
            except (OSError, RuntimeError) as error:
                raise UserError(f"{name}: not complete in {root} and the download failed ({error})") from None
    classes = [str(c) for c in getattr(data, "classes", [])]
    images, labels = _arrays(data, name)
    return images, labels, classes or [str(label) for label in range(labels.max() + 1)]


def _arrays(data, name: str) -> tuple[np.ndarray, np.ndarray]:
    pixels = getattr(data, "data", None)
    labels = getattr(data, "targets", getattr(data, "labels", None))
    if pixels is not None and labels is not None and hasattr(pixels, "shape"):
        images = np.asarray(pixels)
        if images.ndim == 3:
            images = images[..., None]
        elif images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
            images = images.transpose(0, 2, 3, 1)  # SVHN and STL10 keep (N, C, H, W)
        return images, np.asarray(labels, dtype=np.int64)
    pairs = [(np.asarray(image.convert("RGB")), label) for image, label in data]
    sizes = {image.shape for image, _ in pairs}
    if len(sizes) > 1:
        raise UserError(f"{name}: its images have several sizes; export it as class folders and use image_folder")
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs], dtype=np.int64)
