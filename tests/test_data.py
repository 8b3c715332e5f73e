"""Image sets, splits, folders of images and corruptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.data import digits, folder
from diversity_spectra.data.corruptions import LEVELS, corrupt
from diversity_spectra.data.job import Digits, ImageFolder
from diversity_spectra.data.split import stratified
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import canonical

RANDOM = np.random.default_rng(0)


def make(out: Path, source: dict, split: str = "train", **inputs: str) -> imageset.ImageSet:
    job = {"settings": {"source": source, "split": split, "seed": 0}, "inputs": inputs, "out": str(out)}
    assert main(["data", "--job", canonical(job)]) == 0
    return imageset.load(out)


def test_splits_are_balanced_and_disjoint() -> None:
    labels = np.repeat([0, 1, 2], [50, 40, 30])
    parts = stratified(labels, [10, 5, None], 0, ["a", "b", "c"])
    assert [np.bincount(labels[part]).tolist() for part in parts] == [[10] * 3, [5] * 3, [35, 25, 15]]
    assert len(np.unique(np.concatenate(parts))) == len(labels)


def test_a_split_of_a_class_does_not_depend_on_other_classes() -> None:
    labels = np.repeat([0, 1], 20)
    alone = stratified(labels[:20], [5], 0, ["a"])[0]
    both = stratified(labels, [5], 0, ["a", "b"])[0]
    assert alone.tolist() == both[both < 20].tolist()


def test_too_small_a_class_is_named() -> None:
    with pytest.raises(UserError, match="class 'b' has 3 images, the split takes 5"):
        stratified(np.array([0] * 9 + [1] * 3), [5], 0, ["a", "b"])


def test_digits_are_split_without_overlap(tmp_path: Path) -> None:
    source = {"kind": "digits", "train_per_class": 20, "test_per_class": 10, "pool_per_class": 30}
    sets = [make(tmp_path / split, source, split) for split in ("train", "test", "pool")]
    assert [len(s) for s in sets] == [200, 100, 300]
    assert all(np.bincount(s.labels).std() == 0 for s in sets)
    rows = [{image.tobytes() for image in s.images} for s in sets]
    assert not rows[0] & rows[1] and not rows[0] & rows[2]


def test_images_set_aside_are_taken_from_those_to_train_on(tmp_path: Path) -> None:
    """Pool and test part stay as they are, and the sizes are known before."""
    plain = {"kind": "digits", "train_per_class": 20, "test_per_class": 10, "pool_per_class": 30}
    source = plain | {"validation_fraction": 0.25}
    train, aside = (make(tmp_path / split, source, split) for split in ("train", "validation"))
    whole = make(tmp_path / "whole", plain)
    assert (len(train), len(aside)) == (150, 50)
    parts = np.concatenate([train.images, aside.images]).reshape(200, -1)
    assert sorted(map(bytes, parts)) == sorted(map(bytes, whole.images.reshape(200, -1)))
    sizes = [Digits.model_validate(source).shape(split)[0] for split in ("train", "validation", "pool", "test")]
    assert sizes == [150, 50, 300, 100]
    for split in ("pool", "test"):
        assert Digits.model_validate(source).of_split(split) == Digits.model_validate(plain).of_split(split)


def test_uci_digits_are_centred() -> None:
    images, labels = digits.uci()
    assert images.shape == (1797, 28, 28, 1) and images.dtype == np.uint8
    weight = images[..., 0] / images.sum((1, 2, 3))[:, None, None]
    assert np.abs((weight.sum(2) * np.arange(28)).sum(1) - 13.5).max() < 0.6
    assert np.bincount(labels).min() > 170


@pytest.mark.parametrize("kind", sorted(LEVELS))
@pytest.mark.parametrize("channels", [1, 3])
def test_corruptions_grow_with_severity_and_depend_on_the_image_only(kind: str, channels: int) -> None:
    grid = np.add.outer(np.arange(28), np.arange(28)) * 4
    images = np.repeat((grid[None, ..., None] % 256).astype(np.uint8), channels, axis=3).repeat(4, axis=0)
    mild, strong = (np.stack(list(corrupt(images, kind, severity, 0))) for severity in (1, 5))
    assert mild.shape == images.shape and mild.dtype == np.uint8
    difference = [np.abs(c.astype(int) - images).mean() for c in (mild, strong)]
    assert 0 < difference[0] < difference[1]
    assert np.array_equal(list(corrupt(images[:2], kind, 5, 0)), strong[:2])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of images of every mode, one turned by EXIF, one deeper down, one file that is no image."""
    root = tmp_path / "tree"
    for name in ("cat", "dog"):
        (root / name / "deeper").mkdir(parents=True)
        for number in range(12):
            pixels = RANDOM.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / "deeper" / f"{number}.png")
    Image.fromarray(np.full((9, 9), 200, np.uint8)).save(root / "cat" / "grey.png")
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(root / "cat" / "deep.png")
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(root / "cat" / "clear.png")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).convert("P").save(root / "dog" / "palette.gif")
    (root / "dog" / "broken.jpg").write_bytes(b"not an image")
    exif = Image.Exif()
    exif[0x0112] = 6
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    Image.fromarray(half).save(root / "dog" / "turned.png", exif=exif)
    return root


def test_every_mode_of_image_is_read(tree: Path) -> None:
    read = folder.read_image
    assert np.all(read(tree / "cat" / "grey.png", 8) == 200)
    assert np.all(read(tree / "cat" / "clear.png", 8) == 255), "transparent is paper"
    assert np.all(read(tree / "cat" / "deep.png", 8) == 156)
    turned = read(tree / "dog" / "turned.png", 8)
    assert np.all(turned[:, 5:] == 255) and np.all(turned[:, :3] == 0)
    assert "broken.jpg" in read(tree / "dog" / "broken.jpg", 8)


def test_a_folder_becomes_train_and_test(tree: Path, tmp_path: Path) -> None:
    source = {
        "kind": "image_folder",
        "path": str(tree),
        "image_size": 16,
        "test_fraction": 0.25,
        "train_per_class": None,
        "test_per_class": None,
        "pool_per_class": 0,
    }
    train, test = make(tmp_path / "train", source), make(tmp_path / "test", source, "test")
    assert train.classes == ["cat", "dog"] and train.images.shape[1:] == (16, 16, 3)
    assert len(train) + len(test) == 29, "all but the unreadable one"
    names = [set(imageset.read_manifest(tmp_path / split)["source"]) for split in ("train", "test")]
    assert not names[0] & names[1]
    assert np.bincount(test.labels).min() >= 3


def test_classes_are_cut_to_a_list(tmp_path: Path) -> None:
    """One domain to train on, another to test on, whose other classes are left out; sizes are known beforehand."""
    for domain, shade in (("photo", 40), ("sketch", 200)):
        for name in ("bus", "car", "train-set"):
            (tmp_path / domain / name).mkdir(parents=True)
            for index in range(6):
                picture = np.full((9, 9, 3), shade + index, np.uint8)
                picture[0, 0] = len(name), index, shade
                Image.fromarray(picture).save(tmp_path / domain / name / f"{index}.png")
    source = {"kind": "image_folder", "path": str(tmp_path / "photo"), "image_size": 8, "only": ["train-set", "bus"]}
    test = make(tmp_path / "test", source, "test")
    assert test.classes == ["train-set", "bus"]
    planned = ImageFolder.model_validate(source)
    assert planned.shape("test")[0] == len(test) and planned.names() == test.classes
    shifted = {"kind": "image_folder", "path": str(tmp_path / "sketch"), "image_size": 8}
    other = make(tmp_path / "other", shifted, "test", classes_of=str(tmp_path / "test"))
    assert other.classes == test.classes and len(other) == 12 and other.images.min() >= 2


def test_an_empty_class_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "tree" / "cat").mkdir(parents=True)
    source = {"kind": "image_folder", "path": str(tmp_path / "tree"), "image_size": 8}
    job = {"settings": {"source": source, "split": "train", "seed": 0}, "inputs": {}, "out": str(tmp_path / "out")}
    assert main(["data", "--job", canonical(job)]) == 2
    assert "cat: no images in this class folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_set_is_named(tmp_path: Path) -> None:
    source = {"kind": "digits", "train_per_class": 2, "test_per_class": 2, "pool_per_class": 1}
    make(tmp_path / "set", source)
    with (tmp_path / "set" / "images.npy").open("r+b") as stream:
        stream.truncate(200)
    with pytest.raises(UserError, match="damaged image set"):
        imageset.load(tmp_path / "set")


def test_classes_of_a_shifted_set_are_matched_by_name() -> None:
    from diversity_spectra.data.command import matched

    assert matched(["cat", "dog"], ["dog", "cat"], "other").tolist() == [1, 0]
    assert matched(["0 - zero", "1 - one"], ["1", "0"], "MNIST").tolist() == [1, 0]
    assert matched(["shirt", "boot"], ["0", "1"], "FashionMNIST").tolist() == [0, 1]
    with pytest.raises(UserError, match="STL has the classes bird, monkey; the data set has bird, frog"):
        matched(["bird", "monkey"], ["bird", "frog"], "STL")


@pytest.mark.parametrize(
    ("settings", "inputs", "message"),
    [
        ({"source": {"kind": "corruption", "corruption": "jpeg", "severity": 1}}, {}, "stand in inputs.images"),
        ({"source": {"kind": "digits"}}, {"images": "x"}, "with a source of kind corruption"),
        ({"source": {"kind": "uci_digits"}, "split": "pool"}, {}, "kind uci_digits has no part 'pool'; take test"),
    ],
)
def test_a_job_that_cannot_be_is_one_line(settings: dict, inputs: dict, message: str, capsys) -> None:
    assert main(["data", "--job", canonical({"settings": settings, "inputs": inputs, "out": "out"})]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
