"""Folders of images as people have them: layouts, uneven classes, what cannot be read, what lies twice."""

from __future__ import annotations

import copy
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY
from PIL import Image

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.config import parse
from diversity_spectra.data import folder
from diversity_spectra.data.doubles import doubles
from diversity_spectra.data.job import READERS, Digits, ImageFolder, OodImageFolder, Prepare
from diversity_spectra.data.split import stratified
from diversity_spectra.data.tree import counts
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import canonical
from diversity_spectra.planning.plan import plan
from diversity_spectra.planning.show import pictures
from diversity_spectra.report.load import pick
from diversity_spectra.report.material import Material
from diversity_spectra.report.sections.data import notes, quality
from diversity_spectra.settings import ConfigError, read_yaml
from diversity_spectra.work import Sets


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def fill(root: Path, random: np.random.Generator, **classes: int) -> Path:
    """Class folders with so many different pictures each."""
    for name, number in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(number):
            picture(random).save(root / name / f"{index:03d}.png")
    return root


def picture(random: np.random.Generator) -> Image.Image:
    return Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8))


def made(path: Path, out: Path, split: str = "train", classes_of: Path | None = None, **settings: object):
    source = {"kind": "image_folder", "path": str(path), "image_size": 8, **settings}
    inputs = {"classes_of": str(classes_of)} if classes_of else {}
    job = {"settings": {"source": source, "split": split, "seed": 0}, "inputs": inputs, "out": str(out)}
    assert main(["data", "--job", canonical(job)]) == 0
    return imageset.load(out)


def refused(path: Path, capsys: pytest.CaptureFixture, **settings: object) -> str:
    source = {"kind": "image_folder", "path": str(path), "image_size": 8, **settings}
    job = {"settings": {"source": source, "split": "train"}, "inputs": {}, "out": str(path.parent / "refused")}
    capsys.readouterr()
    assert main(["data", "--job", canonical(job)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    return line


def configured(path: Path) -> dict:
    config = copy.deepcopy(read_yaml(ROOT / TINY))
    data = {"kind": "image_folder", "path": str(path)}
    return {**config, "data": data, "ood": [], "generator": None, "models": [{**config["models"][0]}]}


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("train", "val"), ("Train", "Test"), ("training", "validation"), ("TRAIN", "valid")],
)
def test_parts_are_found_whatever_their_spelling(
    train: str, test: str, tmp_path: Path, random: np.random.Generator
) -> None:
    fill(tmp_path / "photos" / train, random, cat=6, dog=5)
    fill(tmp_path / "photos" / test, random, cat=3, dog=2)
    for split, sizes in (("train", [6, 5]), ("test", [3, 2])):
        images = made(tmp_path / "photos", tmp_path / split, split)
        assert images.classes == ["cat", "dog"] and np.bincount(images.labels).tolist() == sizes
        source = ImageFolder(kind="image_folder", path=str(tmp_path / "photos"))
        assert source.shape(split)[0] == sum(sizes) and source.classes() == 2


def test_of_three_parts_the_one_that_nobody_reads_is_said(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for part, number in (("train", 6), ("val", 4), ("test", 3)):
        fill(Path("photos", part), random, cat=number, dog=number)
    assert len(made(Path("photos"), tmp_path / "test", "test")) == 6
    assert said_of("photos") == ["photos/val is not used: test/ is tested on"]


def said_of(path: str) -> list[str]:
    """What `check`, `plan` and the start of the workflow say of it."""
    return plan(parse({**configured(Path(path)), "diversity": {"per_class": 2}})).notes


def test_a_training_part_alone_is_split(tmp_path: Path, random: np.random.Generator) -> None:
    fill(tmp_path / "photos/train", random, cat=10, dog=10)
    assert np.bincount(made(tmp_path / "photos", tmp_path / "out").labels).tolist() == [8, 8]


def test_a_class_may_be_called_train(tmp_path: Path, random: np.random.Generator) -> None:
    assert made(fill(tmp_path / "vehicles", random, bus=5, train=5), tmp_path / "out").classes == ["bus", "train"]


def test_two_folders_of_one_part_are_refused(
    tmp_path: Path, random: np.random.Generator, capsys: pytest.CaptureFixture
) -> None:
    for part in ("train", "val", "valid"):
        fill(tmp_path / "photos" / part, random, cat=2, dog=2)
    assert "are both the val part; keep one" in refused(tmp_path / "photos", capsys)
    with pytest.raises(ConfigError, match="are both the val part"):
        parse(configured(tmp_path / "photos"))


def test_one_class_is_refused_before_anything_runs(tmp_path: Path, random: np.random.Generator) -> None:
    fill(tmp_path / "photos", random, images=4)
    (tmp_path / "photos/labels.csv").write_text("000.png,cat\n")
    with pytest.raises(ConfigError, match="one class, 'images', and nothing to tell it from"):
        parse(configured(tmp_path / "photos"))
    fill(tmp_path / "two", random, cat=2, dog=2)
    assert parse(configured(tmp_path / "two")).data.classes() == 2


@pytest.mark.parametrize("name", ["labels.csv", "data.parquet", "shard-000.tar", "folder/shard-000.tar"])
def test_what_is_no_tree_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"Hugging Face data set as PATH/CLASS/NAME\.png, one folder per class"):
        parse(configured(tmp_path / name if "/" not in name else tmp_path / "folder"))


def test_extra_classes_of_the_test_part_are_said(tmp_path: Path, random: np.random.Generator) -> None:
    fill(tmp_path / "photos/train", random, cat=3, dog=3)
    fill(tmp_path / "photos/test", random, cat=3, dog=3, ox=3)
    test = made(tmp_path / "photos", tmp_path / "test", "test")
    assert len(test) == 6 and "left out: ox" in test.meta["notes"][0]


def test_a_shifted_set_may_have_some_of_the_classes(tmp_path: Path, random: np.random.Generator) -> None:
    test = made(fill(tmp_path / "photos", random, cat=5, dog=5, ox=5), tmp_path / "test", "test", fit="pad")
    sketches = fill(tmp_path / "sketches", random, dog=3, unicorn=2)
    shifted = made(sketches, tmp_path / "shifted", "test", classes_of=tmp_path / "test", image_size=224)
    assert shifted.classes == test.classes and shifted.labels.tolist() == [1, 1, 1]
    assert shifted.images.shape[1:] == test.images.shape[1:] and shifted.meta["source"]["fit"] == "pad"
    assert "2 of 3 classes have no image here" in shifted.meta["notes"]
    source = OodImageFolder(kind="image_folder", name="sketches", path=str(sketches)).source()
    planned = Prepare(source=source, classes_of=str(tmp_path / "test"))
    assert planned.shape(Sets()) == (5, 8, 8, 3), "all of them, at the side of the test set"


# ---------------------------------------------------------------- sizes of classes


def test_every_class_gives_its_share_to_the_test_set(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, cat=60, dog=5, ox=2)
    train, test = (made(root, tmp_path / split, split) for split in ("train", "test"))
    assert np.bincount(test.labels).tolist() == [12, 1, 1] and np.bincount(train.labels).tolist() == [48, 4, 1]
    assert ImageFolder(kind="image_folder", path=str(root)).shape("train")[0] == len(train)


def test_a_fraction_is_taken_of_each_class() -> None:
    labels = np.repeat([0, 1], [300, 5])
    tested, rest = stratified(labels, [0.2, None], 0, ["a", "b"])
    assert np.bincount(labels[tested]).tolist() == [60, 1] and len(rest) == 244


def test_uneven_classes_and_notes_are_on_the_page(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, cat=20, dog=5)
    (root / "cat/notes.txt").write_text("fluffy")
    samples = pick("real", "baseline", made(root, tmp_path / "train"), 2)
    said = [note for _, note in notes(Material({}, samples=(samples,)))]
    assert said == ["from 4 images of dog to 16 of cat", f"{root}: 1 files are no images by their names, left out"]


def test_the_images_of_every_class_and_part_are_shown_beforehand(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, nan=20, dog=5, **{"1": 10})
    shown = pictures(ImageFolder(kind="image_folder", path=str(root), pool_per_class=1, validation_fraction=0.1))
    assert shown == [
        f"images of {root}, 3 classes:",
        "  21 to train on: 1 6, dog 2, nan 13",
        "  4 set aside: 1 1, dog 1, nan 2",
        "  3 for the generator: 1 of each class",
        "  7 to test on: 1 2, dog 1, nan 4",
    ]
    for part in ("train", "validation", "pool", "test"):
        images = made(root, tmp_path / part, part, pool_per_class=1, validation_fraction=0.1)
        assert f"  {len(images)} " in "\n".join(shown) and images.classes == ["1", "dog", "nan"]
    many = pictures(
        ImageFolder(
            kind="image_folder", path=str(fill(tmp_path / "m", random, **dict.fromkeys("abcdefghijkl", 5), m=9))
        )
    )
    assert many[1] == "  55 to train on: from 4 of a to 7 of m"
    config = configured(root)
    with pytest.raises(ConfigError, match=r"class 'dog' has 4 images to train on; .* need 8 of each"):
        parse({**config, "data": {**config["data"], "train_per_class": 8}, "diversity": {"per_class": 2}})
    with pytest.raises(ConfigError, match="leave no image of class 'dog' to train on"):
        parse({**config, "data": {**config["data"], "validation_fraction": 0.1, "pool_per_class": 3}})
    (root / "bird").mkdir()
    with pytest.raises(
        ConfigError, match=r"class 'bird' has no images to train on; remove its folder, or name .* `only`"
    ):
        parse(config)
    parse({**config, "data": {**config["data"], "only": ["1", "dog", "nan"]}})


def test_test_images_like_training_images_are_a_line_of_the_page() -> None:
    row = {"measure": "near_copies_train_pixel", "value": 0.03, "n": 200, "training_set": "plain"}
    table = pd.DataFrame([{**row, "label": "overall"}, {**row, "label": "cat"}])
    ((name, said),) = notes(Material({"quality": table}))
    assert name == "test" and said.startswith("6 of 200 test images lie as near to a training image")
    shown = Material({"quality": table, "conditions": pd.DataFrame({"model": []})})
    assert not quality(shown), "no judgement of synthetic images"


# ---------------------------------------------------------------- files


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_damaged_files_are_counted_and_named(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, cat=30, dog=30)
    whole = (root / "cat/000.png").read_bytes()
    start = whole.index(b"IDAT") - 4
    damaged = whole[:start] + struct.pack(">I", 3) + whole[start + 4 :]  # Pillow: SyntaxError
    (root / "cat/000.png").write_bytes(damaged)
    (root / "cat/001.png").write_bytes(b"")
    assert "000.png" in folder.read_image(root / "cat/000.png", 8)
    parts = [made(root, tmp_path / split, split) for split in ("train", "test")]
    assert sum(map(len, parts)) == 58
    said = " ".join(note for part in parts for note in part.meta["notes"])
    assert "cannot be read and are left out" in said and "cat/000.png" in said and "cat/001.png" in said


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, cat=4, dog=4)
    os.rename(root / "cat/000.png", os.fsencode(root / "cat") + b"/\xe9t\xe9.png")
    parts = [made(root, tmp_path / split, split) for split in ("train", "test")]
    assert sum(map(len, parts)) == 8
    names = [name for split in ("train", "test") for name in imageset.read_manifest(tmp_path / split)["source"]]
    assert r"cat/\xe9t\xe9.png" in names


def test_a_class_whose_name_is_not_utf8_is_refused(
    tmp_path: Path, random: np.random.Generator, capsys: pytest.CaptureFixture
) -> None:
    root = fill(tmp_path / "photos", random, cat=4, dog=4)
    os.rename(root / "cat", os.fsencode(root) + b"/\xe9t\xe9")
    assert "needs a name of printable UTF-8 text; rename it" in refused(root, capsys)


def test_hidden_folders_are_not_read_and_links_are(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, cat=4, dog=4)
    fill(root / "cat", random, **{".ipynb_checkpoints": 3})
    fill(tmp_path / "elsewhere", random, more=2)
    (root / "dog/more").symlink_to(tmp_path / "elsewhere/more")
    picture(random).save(root / "dog/a.jfif", "JPEG")
    picture(random).save(root / "dog/b.avif")
    (root / "dog/C.PNG").write_bytes((root / "dog/a.jfif").read_bytes())
    (root / "dog/d.txt").touch()
    assert np.bincount(made(root, tmp_path / "train", test_fraction=0.25).labels).tolist() == [3, 7]
    assert counts(root) == {"cat": 4, "dog": 9}


def test_copies_and_leaked_files_are_said(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("photos")
    fill(root / "train", random, cat=6, dog=6)
    fill(root / "test", random, cat=3, dog=3)
    shutil.copytree(fill(root / "train/ox", random, calf=1), root / "test/ox")  # of no class that is kept
    shutil.copy(root / "train/cat/000.png", root / "train/cat/again.png")
    shutil.copy(root / "train/cat/001.png", root / "train/dog/cat.png")
    shutil.copy(root / "train/dog/002.png", root / "test/dog/leaked.png")
    copies = "2 training images are copies of others, byte by byte; 1 pictures lie in several classes"
    leaked = "1 of 7 test images are training images as well, byte by byte"
    own = {"only": ["cat", "dog"]}
    assert made(root, tmp_path / "out", **own).meta["notes"][1:] == [copies]
    assert ImageFolder(kind="image_folder", path="photos", **own).notes() == [leaked]


def test_a_picture_on_both_sides_of_a_split_is_said(tmp_path: Path, random: np.random.Generator) -> None:
    root = fill(tmp_path / "photos", random, cat=20, dog=20)
    for index in range(4):
        shutil.copy(root / f"cat/{index:03d}.png", root / f"cat/again{index}.png")
    assert "test images are training images as well, byte by byte" in made(root, tmp_path / "out").meta["notes"][-1]


def test_a_test_part_that_is_the_training_part_is_refused(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(fill(Path("photos/train"), random, cat=4, dog=4), "photos/test")
    with pytest.raises(
        UserError, match="photos/test: 8 of 8 test images are training images as well, the first cat/000"
    ):
        said_of("photos")


def test_files_that_differ_before_their_end_are_no_copies(tmp_path: Path) -> None:
    contents = [b"a" + bytes(5000), b"b" + bytes(5000), b"a" + bytes(5000), b"", b""]
    files = [tmp_path / str(index) for index in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    assert doubles(files) == [[0, 2], [3, 4]]


def test_any_number_of_processes_reads_the_same(tmp_path: Path, random: np.random.Generator) -> None:
    files = sorted(fill(tmp_path / "photos", random, cat=40).rglob("*.png"))
    files[7].write_bytes(b"")
    read = []
    for processes in (1, 3):
        (out := tmp_path / str(processes)).mkdir()
        read.append(folder.read_images(files, 8, out, processes=processes))
    assert np.array_equal(read[0][0], read[1][0]) and np.array_equal(read[0][1], read[1][1]) and len(read[0][0]) == 39
    own = ImageFolder(kind="image_folder", path="photos")
    assert Prepare(source=own).cores(1) == READERS and Prepare(source=Digits(kind="digits")).cores(4) == 1


# ---------------------------------------------------------------- pixels


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("pixels", "suffix", "expected"),
    [
        (np.full((9, 9), 1000, np.uint16), "png", 4),
        (np.full((9, 9), 60000, np.uint16), "png", 233),
        (np.full((9, 9), 257, np.int32), "tif", 1),
        (np.full((9, 9), 0.5, np.float32), "tif", 128),
    ],
)
def test_deep_pictures_share_one_scale(pixels: np.ndarray, suffix: str, expected: int, tmp_path: Path) -> None:
    assert np.all(folder.read_image(saved(tmp_path / f"a.{suffix}", pixels), 8) == expected)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((9, 9), -32768, np.int32),
        np.full((9, 9), 70000, np.int32),
        np.full((9, 9), -0.5, np.float32),
        np.full((9, 9), 255, np.float32),
        np.full((9, 9), np.nan, np.float32),
    ],
)
def test_pictures_of_unknown_scale_are_said_to_be(pixels: np.ndarray, tmp_path: Path) -> None:
    assert "of unknown scale; export as 8 bits" in folder.read_image(saved(tmp_path / "a.tif", pixels), 8)


def test_transparent_parts_of_a_16_bit_picture_are_paper(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 30000, np.uint16)
    pixels[:4] = 7
    path = saved(tmp_path / "a.png", pixels)
    whole = path.read_bytes()
    start = whole.index(b"IDAT") - 4
    path.write_bytes(whole[:start] + chunk(b"tRNS", struct.pack(">H", 7)) + whole[start:])
    read = folder.read_image(path, 8)
    assert np.all(read[:4] == 255) and np.all(read[4:] == 117)


def test_a_panorama_is_cropped_padded_or_squashed(tmp_path: Path) -> None:
    pixels = np.full((8, 32, 3), 200, np.uint8)
    pixels[:, :8] = 0
    path = saved(tmp_path / "a.png", pixels)
    crop, pad, squash = (folder.read_image(path, 8, fit) for fit in ("crop", "pad", "squash"))
    assert np.all(crop == 200), "the centre"
    assert np.all(pad[:3] == 0) and np.all(pad[3:5, 4:] == 200)
    assert np.all(squash[:, 4:] == 200) and np.all(squash[:, 0] == 0)
