"""Prepare one image set: a split of a data set, an out-of-distribution set, or a corrupted test set."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.contents import files_in, images_in
from diversity_spectra.data.doubles import doubles, leaks
from diversity_spectra.data.job import ClassFolders, ImageFolder, OodArrays, Prepare, Source, Split
from diversity_spectra.data.split import stratified
from diversity_spectra.data.tree import layout, list_classes, printable
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, publish, read_job

EXAMPLE = """example:
  diversity-spectra data --job '{"settings": {"source": {"kind": "digits", "train_per_class": 100}, "split": "train"},
    "inputs": {}, "out": "digits-train"}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    parser.add_argument("--threads", type=int, default=1, help="processes that decode images (default: %(default)s)")
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    job = read_job(arguments, Prepare)
    with publish(job) as result:
        if job.images:
            _corrupted(job, result.folder)
        else:
            _prepared(job, result.folder, arguments.threads)


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


def _prepared(job: Prepare, folder: Path, processes: int) -> None:
    import pandas as pd

    source, split, seed = job.source.of_split(job.split), job.split, job.seed
    side, classes, notes = getattr(source, "image_size", None), None, []
    if job.classes_of:
        # A shifted test set: its classes and the look of its images are those of the test set.
        test = imageset.load(job.classes_of)
        side, classes = test.images.shape[1], test.classes
        if isinstance(source, ClassFolders):
            source = source.model_copy(update={"fit": test.meta["source"].get("fit", source.fit)})
    if isinstance(source, ClassFolders):
        images, labels, classes, origin, notes = _from_folder(source, split, seed, folder, side, classes, processes)
    elif source.kind == "torchvision":
        images, labels, classes, origin = _from_torchvision(source, split, seed, folder, side, classes, processes)
    else:
        pixels, labels, classes = _read_arrays(source, classes)
        origin = _choose(source, split, labels, seed, classes)
        images, labels = imageset.copy(folder, pixels, origin), labels[origin]
    found = imageset.per_class(labels, classes)
    empty = [name for name, number in found.items() if not number]
    if empty and not (job.classes_of and len(labels)):
        raise UserError(f"no images of class {', '.join(map(repr, empty))} in split {split!r}")
    if empty:
        notes.append(f"{len(empty)} of {len(classes)} classes have no image here")
    manifest = pd.DataFrame({"source": origin, "label": labels})
    meta = {"classes": classes, "source": source.model_dump(), "split": split, "notes": notes}
    imageset.save(folder, images, labels, manifest, meta)
    log.info("%d images of %d classes, %s", len(labels), len(classes), images.shape[1:])
    log.info("per class: %s", ", ".join(f"{number} {name}" for name, number in found.items()))
    for note in notes:
        log.warning("%s", note)


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
        train, pool, test = stratified(labels, sizes, seed, classes)
        return {"pool": pool, "test": test, **_divided(source, labels, train, seed, classes)}[split]
    if split == "test":
        limit = getattr(source, "test_per_class", None)
        return np.arange(len(labels)) if limit is None else stratified(labels, [limit], seed, classes)[0]
    pool, train = stratified(labels, [source.pool_per_class, source.train_per_class], seed, classes)
    return {"pool": pool, **_divided(source, labels, train, seed, classes)}[split]


def _divided(
    source: Source, labels: np.ndarray, train: np.ndarray, seed: int, classes: list[str]
) -> dict[str, np.ndarray]:
    """Indices to train on as two parts: what is trained on, and what is set aside."""
    if not source.validation_fraction:
        return {"train": train}
    aside, left = stratified(labels[train], [source.validation_fraction, None], seed, classes)
    return {"train": train[left], "validation": train[aside]}


def _from_torchvision(
    source: Source, split: Split, seed: int, folder: Path, side: int | None, classes: list[str] | None, processes: int
) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    from diversity_spectra.data import torchvision_set

    data = torchvision_set.open_set(source.name, source.root, split, source.download)
    labels = torchvision_set.labels_of(data)
    names = torchvision_set.classes_of(data, labels)
    if classes:
        labels = matched(names, classes, source.name)[labels]
    chosen = _choose(source, split, labels, seed, classes or names)
    images, origin = torchvision_set.write(data, chosen, side, folder, processes)
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
    source: ClassFolders, split: Split, seed: int, folder: Path, side: int, classes: list[str] | None, processes: int
) -> tuple[np.ndarray, np.ndarray, list[str], list[str], list[str]]:
    """Images, labels, classes, file of each image, and what is to be said of the tree."""
    from diversity_spectra.data.folder import list_images, read_images

    root, shifted = Path(source.path), classes is not None
    root = layout(root).train if isinstance(source, ImageFolder) else root
    present = list_classes(root)
    classes = classes or source.only or present
    missing, others = ([name for name in a if name not in b] for a, b in ((classes, present), (present, classes)))
    if missing and (not shifted or len(missing) == len(classes)):
        raise UserError(f"{root}: no folder for class {', '.join(map(repr, missing))}")
    files, labels = list_images(root, classes)
    notes = [f"{root}: not a class of the training images, left out: {_first(others)}"] if others else []
    if not shifted:
        parts = _folder_parts(source, labels, seed, classes)
        if split == "train":
            tested = parts["test"] if isinstance(source, ImageFolder) else ()
            trained, tested = ([files[index] for index in part] for part in (parts["train"], tested))
            notes += _tree_notes(root, classes, trained, labels[parts["train"]], tested)
        files, labels = [files[index] for index in parts[split]], labels[parts[split]]
    images, kept = read_images(files, side, folder, source.fit, processes)
    names = [printable(path.relative_to(root)) for path in files]
    if unread := [names[index] for index in np.setdiff1d(np.arange(len(files)), kept)]:
        notes.append(f"{len(unread)} of {len(files)} files cannot be read and are left out: {_first(unread)}")
    return images, labels[kept], classes, [names[index] for index in kept], notes


def _folder_parts(source: ClassFolders, labels: np.ndarray, seed: int, classes: list[str]) -> dict[str, np.ndarray]:
    """Indices (n,) by part."""
    tested = rest = np.arange(len(labels))
    if isinstance(source, ImageFolder):
        # Each class gives the same share; at least one image of every class is tested on.
        tested, rest = stratified(labels, [source.test_fraction, None], seed, classes)
    if source.test_per_class is not None:
        tested = tested[stratified(labels[tested], [source.test_per_class], seed, classes)[0]]
    pool, train = stratified(labels[rest], [source.pool_per_class, source.train_per_class], seed, classes)
    return {"test": tested, "pool": rest[pool], **_divided(source, labels, rest[train], seed, classes)}


def _tree_notes(root: Path, classes: list[str], files: list[Path], labels: np.ndarray, tested: list[Path]) -> list[str]:
    """What to know of a tree beside its images: what nobody reads, and files of the same content.

    Raises `UserError` where most of the test images are training images.
    """
    notes = []
    others = sum(len(files_in(root / name)) - len(images_in(root / name)) for name in classes)
    if others:
        notes.append(f"{root}: {others} files are no images by their names, left out")
    same = doubles([*files, *tested])
    within = [[index for index in group if index < len(files)] for group in same]
    copies = sum(max(0, len(group) - 1) for group in within)
    if copies:
        several = sum(len(set(labels[group])) > 1 for group in within)
        notes.append(
            f"{copies} training images are copies of others, byte by byte"
            + (f"; {several} pictures lie in several classes" if several else "")
        )
    leaked = [index - len(files) for group in same if group[0] < len(files) for index in group if index >= len(files)]
    return notes + leaks(root, [tested[index] for index in leaked], len(tested))


def _first(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
