"""Prepare one image set: a split of a data set, an out-of-distribution set, or a corrupted test set."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.data.job import OodArrays, Prepare, Source, Split
from diversity_spectra.data.split import stratified
from diversity_spectra.data.tree import held_out, list_classes, train_and_test
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, publish, read_job

EXAMPLE = """example:
  diversity-spectra data --job '{"settings": {"source": {"kind": "digits", "train_per_class": 100}, "split": "train"},
    "inputs": {}, "out": "digits-train"}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    job = read_job(arguments, Prepare)
    with publish(job) as result:
        if job.images:
            _corrupted(job, result.folder)
        else:
            _prepared(job, result.folder)


def _corrupted(job: Prepare, folder: Path) -> None:
    import pandas as pd

    from diversity_spectra.data.corruptions import corrupt

    clean, source = imageset.load(job.images), job.source
    corrupted = imageset.new_images(folder, clean.images.shape)
    for index, image in enumerate(corrupt(clean.images, source.corruption, source.severity, job.seed)):
        corrupted[index] = image
    corrupted.flush()
    manifest = pd.DataFrame({"source": np.arange(len(clean)), "corruption": source.corruption})
    manifest["severity"] = source.severity
    imageset.save(folder, corrupted, clean.labels, manifest, {**clean.meta, "corruption": source.model_dump()})


def _prepared(job: Prepare, folder: Path) -> None:
    import pandas as pd

    source, split, seed = job.source, job.split, job.seed
    side, classes = getattr(source, "image_size", None), None
    if job.classes_of:
        # A shifted test set: its classes and the side of its images are those of the test set.
        test = imageset.load(job.classes_of)
        side, classes = test.images.shape[1], test.classes
    if source.kind == "image_folder":
        images, labels, classes, origin = _from_folder(source, split, seed, folder, side, classes)
    elif source.kind == "torchvision":
        images, labels, classes, origin = _from_torchvision(source, split, seed, folder, side, classes)
    else:
        pixels, labels, classes = _read_arrays(source, classes)
        origin = _choose(source, split, labels, seed, classes)
        images, labels = imageset.copy(folder, pixels, origin), labels[origin]
    if len(np.unique(labels)) < len(classes):
        empty = [name for label, name in enumerate(classes) if not (labels == label).any()]
        raise UserError(f"no images of class {', '.join(map(repr, empty))} in split {split!r}")
    manifest = pd.DataFrame({"source": origin, "label": labels})
    meta = {"classes": classes, "source": source.model_dump(), "split": split}
    imageset.save(folder, images, labels, manifest, meta)
    log.info("%d images of %d classes, %s", len(labels), len(classes), images.shape[1:])


def _read_arrays(source: Source, classes: list[str] | None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    from diversity_spectra.data import digits

    if not isinstance(source, OodArrays):
        images, labels = digits.mnist() if source.kind == "digits" else digits.uci()
        return images, labels, [str(digit) for digit in range(10)]
    try:
        images = np.load(source.images, mmap_mode="r", allow_pickle=False)
        labels = np.load(source.labels, allow_pickle=False).astype(np.int64)
    except (ValueError, OSError) as error:
        raise UserError(f"{source.name}: {error}") from None
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        raise UserError(f"{source.images}: expected (N, H, W[, C]) uint8 with one label each")
    if classes and not set(np.unique(labels)) <= set(range(len(classes))):
        raise UserError(f"{source.labels}: labels must be 0 to {len(classes) - 1}, in the order of the classes")
    return images if images.ndim == 4 else images[..., None], labels, classes or []


def _choose(source: Source, split: Split, labels: np.ndarray, seed: int, classes: list[str]) -> np.ndarray:
    """Indices (n,) of the images of a split."""
    if source.kind == "digits":
        sizes = [source.train_per_class, source.pool_per_class, source.test_per_class]
        return stratified(labels, sizes, seed, classes)[["train", "pool", "test"].index(split)]
    if split == "test":
        limit = getattr(source, "test_per_class", None)
        return np.arange(len(labels)) if limit is None else stratified(labels, [limit], seed, classes)[0]
    pool, train = stratified(labels, [source.pool_per_class, source.train_per_class], seed, classes)
    return train if split == "train" else pool


def _from_torchvision(
    source: Source, split: Split, seed: int, folder: Path, side: int | None, classes: list[str] | None
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    from diversity_spectra.data import torchvision_set

    data = torchvision_set.open_set(source.name, source.root, split, source.download)
    labels = torchvision_set.labels_of(data)
    names = torchvision_set.classes_of(data, labels)
    if classes:
        labels = matched(names, classes, source.name)[labels]
    chosen = _choose(source, split, labels, seed, classes or names)
    images, origin = torchvision_set.write(data, chosen, side, folder)
    return images, labels[origin], classes or names, origin


def matched(names: list[str], classes: list[str], source: str) -> np.ndarray:
    """For each class of a shifted test set, its position among `classes` of the data set: (len(names),) int64.

    Classes are matched by name. Where one of the two has numbers for names, they are taken to be in the same order.
    Raises `UserError` if the classes differ.
    """
    given = [name.split(" - ")[0] for name in names]  # MNIST calls its classes "0 - zero"
    wanted = [name.split(" - ")[0] for name in classes]
    if sorted(given) == sorted(wanted):
        return np.array([wanted.index(name) for name in given])
    numbered = all(name.isdigit() for name in given) or all(name.isdigit() for name in wanted)
    if len(given) == len(wanted) and numbered:
        return np.arange(len(given))
    raise UserError(f"{source} has the classes {', '.join(given)}; the data set has {', '.join(wanted)}")


def _from_folder(
    source: Source, split: Split, seed: int, folder: Path, side: int, classes: list[str] | None
) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    from diversity_spectra.data.folder import list_images, read_images

    root, whole = Path(source.path), classes is not None
    separate = train_and_test(root)
    if separate:
        found = list_classes(separate[0])
        root = separate[split == "test"]
    else:
        found = list_classes(root)
    missing = sorted(set(classes or found) - set(list_classes(root)))
    if missing:
        raise UserError(f"{root}: no folder for class {', '.join(map(repr, missing))}")
    classes = classes or found
    files, labels = list_images(root, classes)
    if not whole:
        chosen = _folder_split(source, split, labels, seed, classes, bool(separate))
        files, labels = [files[index] for index in chosen], labels[chosen]
    images, kept = read_images(files, side, folder)
    return images, labels[kept], classes, [str(files[index].relative_to(root)) for index in kept]


def _folder_split(
    source: Source, split: Split, labels: np.ndarray, seed: int, classes: list[str], separate: bool
) -> np.ndarray:
    everything = np.arange(len(labels))
    if not separate:
        # Each class gives the same share; at least one image of every class is tested on.
        smallest = np.bincount(labels, minlength=len(classes)).min()
        test, rest = stratified(labels, [held_out(source.test_fraction, smallest), None], seed, classes)
        everything = test if split == "test" else rest
    labels = labels[everything]
    if split == "test":
        limit = source.test_per_class
        return everything if limit is None else everything[stratified(labels, [limit], seed, classes)[0]]
    pool, train = stratified(labels, [source.pool_per_class, source.train_per_class], seed, classes)
    return everything[train if split == "train" else pool]
