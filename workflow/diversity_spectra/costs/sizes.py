"""Sizes of image sets: read off the disk where they are made, else worked out from the settings that will make them."""

from __future__ import annotations

import ast
import json
import os
import struct
from contextlib import suppress
from pathlib import Path

# torchvision's own sets: training images, test images, side in pixels, channels, classes.
TORCHVISION = {
    "CIFAR10": (50_000, 10_000, 32, 3, 10),
    "CIFAR100": (50_000, 10_000, 32, 3, 100),
    "EMNIST": (112_800, 18_800, 28, 1, 47),
    "FashionMNIST": (60_000, 10_000, 28, 1, 10),
    "KMNIST": (60_000, 10_000, 28, 1, 10),
    "MNIST": (60_000, 10_000, 28, 1, 10),
    "STL10": (5_000, 8_000, 96, 3, 10),
    "SVHN": (73_257, 26_032, 32, 3, 10),
}
UCI_DIGITS = 1797

Shape = tuple[int, int, int, int]  # images, height, width, channels


class Sets:
    """Image sets by the folders that hold them or will hold them. `jobs` are planned ones (`Job.spec`) by folder."""

    def __init__(self, jobs: dict[str, dict] | None = None):
        self.jobs = jobs or {}
        self._shapes: dict[str, Shape | None] = {}

    def settings(self, folder: str) -> dict:
        """Settings of the job that makes or made a folder; empty where nothing is known of it."""
        if folder in self.jobs:
            return self.jobs[folder]["settings"]
        for spec in (Path(folder, "spec.json"), *Path(folder).glob("seed-*/spec.json")):
            with suppress(OSError, ValueError, KeyError):
                return json.loads(spec.read_text())["settings"]
        return {}

    def shape(self, folder: str) -> Shape | None:
        """Images, height, width, channels; None where only making the set can tell."""
        if folder not in self._shapes:
            made = npy_shape(Path(folder, "images.npy"))
            self._shapes[folder] = made or (self._planned(self.jobs[folder]) if folder in self.jobs else None)
        return self._shapes[folder]

    def classes(self, folder: str) -> int | None:
        with suppress(OSError, ValueError, KeyError):
            return len(json.loads(Path(folder, "meta.json").read_text())["classes"])
        if folder not in self.jobs:
            return None
        job = self.jobs[folder]
        for role in ("classes", "images"):
            if role in job["inputs"]:
                return self.classes(job["inputs"][role])
        if "shards" in job["inputs"]:
            return self.classes(job["inputs"]["shards"][0])
        source = job["settings"].get("source", {})
        if source.get("kind") == "torchvision":
            return TORCHVISION[source["name"]][4] if source["name"] in TORCHVISION else None
        if source.get("kind") == "image_folder":
            return len(_images_by_class(Path(source["path"]), "train")) or None
        return 10 if source.get("kind") in ("digits", "uci_digits") else None

    def _planned(self, job: dict) -> Shape | None:
        return {"data": self._data, "shard": self._shard, "generate": self._joined, "augment": self._augmented}[
            job["stage"]
        ](job["settings"], job["inputs"])

    def _data(self, settings: dict, inputs: dict) -> Shape | None:
        source, split = settings["source"], settings.get("split")
        if source["kind"] == "corruption":
            return self.shape(inputs["images"])
        if source["kind"] == "digits":
            return 10 * source[f"{split}_per_class"], 28, 28, 1
        if source["kind"] == "uci_digits":
            return UCI_DIGITS, 28, 28, 1
        if source["kind"] == "arrays":
            shape = npy_shape(Path(source["images"]))
            return (*shape, 1)[:4] if shape else None
        if source["kind"] == "torchvision":
            if source["name"] not in TORCHVISION:
                return None
            train, test, side, channels, classes = TORCHVISION[source["name"]]
            return _split(source, split, train, test, classes), side, side, channels
        side = source.get("image_size") or 224
        return _folder_images(source, split), side, side, 3

    def _shard(self, settings: dict, inputs: dict) -> Shape | None:
        real = inputs.get("classes") or inputs["images"]
        shape, classes = self.shape(real), self.classes(real)
        if shape is None or classes is None:
            return None
        if settings["kind"] == "image_set":
            total = sum(_images_by_class(Path(settings["path"]), "").values())
        else:
            total = settings["images_per_class"] * classes
        shard, shards = settings["shard"]
        return len(range(shard, total, shards)), *shape[1:]

    def _joined(self, settings: dict, inputs: dict) -> Shape | None:
        shapes = [self.shape(shard) for shard in inputs["shards"]]
        return None if None in shapes else (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def _augmented(self, settings: dict, inputs: dict) -> Shape | None:
        real = self.shape(inputs["images"])
        if real is None:
            return None
        added = round(settings["synthetic"] * real[0]) if settings["mode"] == "added" else 0
        return (real[0] + added) * settings.get("copies", 1), *real[1:]


def npy_shape(path: Path) -> tuple[int, ...] | None:
    """The shape in the header of a .npy file (format of NumPy's `lib.format`); None if it cannot be read."""
    try:
        with path.open("rb") as stream:
            major = stream.read(8)[6]
            length = struct.unpack("<H", stream.read(2)) if major == 1 else struct.unpack("<I", stream.read(4))
            return ast.literal_eval(stream.read(length[0]).decode("latin1"))["shape"]
    except (OSError, ValueError, SyntaxError, KeyError, IndexError, struct.error):
        return None


def _split(source: dict, split: str, train: int, test: int, classes: int) -> int:
    """Images in a split: all that is left where no number per class is given."""
    limits = {name: source.get(f"{name}_per_class") for name in ("train", "test", "pool")}
    if limits[split] is not None:
        return limits[split] * classes
    return test if split == "test" else train - (limits["pool"] or 0) * classes


def _folder_images(source: dict, split: str) -> int:
    root = Path(source["path"])
    train = _images_by_class(root, "train")
    if not train:
        return 0
    if "test_fraction" not in source:
        return sum(_images_by_class(root, "test").values())
    if _separate(root):
        test = sum(_images_by_class(root, "test").values())
        return _split(source, split, sum(train.values()), test, len(train))
    held_out = max(1, round(source["test_fraction"] * min(train.values()))) * len(train)
    return _split(source, split, sum(train.values()) - held_out, held_out, len(train))


def _separate(root: Path) -> bool:
    return (root / "train").is_dir() and (root / "test").is_dir()


def _images_by_class(root: Path, part: str) -> dict[str, int]:
    """Files below each class folder, in `root/part` where training and test images lie apart."""
    if part and _separate(root):
        root = root / part
    folders = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    return {name: sum(len(names) for _, _, names in os.walk(root / name)) for name in folders}
