"""torchvision's data sets from a local root: arrays and image files, and what is said of those that cannot be read."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import fashion
import numpy as np
import pytest
from PIL import Image

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.data import folder, torchvision_set
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import canonical

RANDOM = np.random.default_rng(0)


def source(name: str, root: Path, **changes: object) -> dict:
    limits = {"train_per_class": None, "test_per_class": None, "pool_per_class": 0}
    return {
        "kind": "torchvision",
        "name": name,
        "root": str(root),
        "download": False,
        "image_size": None,
        **limits,
        **changes,
    }


def make(out: Path, chosen: dict, split: str = "train", **inputs: str) -> imageset.ImageSet:
    job = {"settings": {"source": chosen, "split": split, "seed": 0}, "inputs": inputs, "out": str(out)}
    assert main(["data", "--job", canonical(job)]) == 0
    return imageset.load(out)


@pytest.mark.parametrize("arrays", [fashion.made, fashion.real], ids=["made", "real"])
def test_fashion_mnist_has_the_same_pixels_from_its_own_files_and_from_class_folders(
    arrays: fashion.Arrays, tmp_path: Path
) -> None:
    arrays = arrays()
    root = fashion.torchvision_root(tmp_path / "root", arrays)
    tree = tmp_path / "tree"
    exported = fashion.class_tree(tree, arrays, {"train": 10, "test": 6})
    for part, (pixels, labels) in arrays.items():
        data = torchvision_set.open_set("FashionMNIST", str(root), part, download=False)
        assert np.array_equal(torchvision_set.labels_of(data), labels)
        (tmp_path / part).mkdir()
        images, numbers = torchvision_set.write(data, exported[part], None, tmp_path / part)
        assert np.array_equal(numbers, exported[part]) and np.array_equal(images[..., 0], pixels[numbers])
        settings = {"kind": "image_folder", "path": str(tree), "image_size": 28}
        from_folder = make(tmp_path / f"folder-{part}", settings, part)
        assert np.array_equal(from_folder.labels, labels[exported[part]])
        assert np.array_equal(from_folder.images, np.repeat(images, 3, axis=3)), "files are read in colour"


def test_a_split_is_balanced_and_says_where_each_image_comes_from(tmp_path: Path) -> None:
    arrays = fashion.made()
    chosen = source("FashionMNIST", fashion.torchvision_root(tmp_path / "root", arrays), pool_per_class=3)
    train, pool, test = (make(tmp_path / split, chosen, split) for split in ("train", "pool", "test"))
    assert [np.bincount(part.labels).tolist() for part in (train, pool, test)] == [[9] * 10, [3] * 10, [6] * 10]
    numbers = [imageset.read_manifest(tmp_path / split)["source"].to_numpy() for split in ("train", "pool")]
    assert not set(numbers[0]) & set(numbers[1])
    assert np.array_equal(train.images[..., 0], arrays["train"][0][numbers[0]])
    assert train.classes[0] == "T-shirt/top" and len(train.classes) == 10


def test_images_are_scaled_where_a_side_is_given(tmp_path: Path) -> None:
    chosen = source("FashionMNIST", fashion.torchvision_root(tmp_path / "root", fashion.made()), image_size=14)
    assert make(tmp_path / "small", chosen, "test").images.shape == (60, 14, 14, 1)


def test_another_set_takes_classes_and_side_of_the_test_set(tmp_path: Path) -> None:
    root = fashion.torchvision_root(tmp_path / "root", fashion.made())
    make(tmp_path / "test", source("FashionMNIST", root, image_size=16), "test")
    shifted = {"kind": "torchvision", "name": "FashionMNIST", "root": str(root)}
    assert make(tmp_path / "ood", shifted, "test", classes_of=str(tmp_path / "test")).images.shape == (60, 16, 16, 1)


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = RANDOM.integers(20, 60, 2)
    Image.fromarray(np.full((height, width, 3), level, np.uint8)).save(path)


def rendered(root: Path) -> dict:
    """Two classes of image files of several sizes, the darker one first."""
    for part, count in (("train", 5), ("test", 3)):
        for name, level in (("negative", 40), ("positive", 200)):
            for number in range(count):
                picture(root / "rendered-sst2" / part / name / f"{number}.png", level + number)
    return source("RenderedSST2", root, image_size=16)


def pets(root: Path) -> dict:
    """The same in a set whose training part is called `trainval`, and which opens its images itself."""
    lists = root / "oxford-iiit-pet" / "annotations"
    lists.mkdir(parents=True)
    for part, count in (("trainval", 5), ("test", 3)):
        lines = []
        for label, (name, level) in enumerate((("Abyssinian", 40), ("beagle", 200))):
            for number in range(count):
                identity = f"{name}_{part}{number}"
                picture(root / "oxford-iiit-pet" / "images" / f"{identity}.jpg", level + number)
                lines.append(f"{identity} {label + 1} 1 1\n")
        (lists / f"{part}.txt").write_text("".join(lines))
    return source("OxfordIIITPet", root, image_size=16)


@pytest.mark.parametrize("write", [rendered, pets])
def test_sets_of_image_files_are_read(write, tmp_path: Path) -> None:
    chosen = write(tmp_path / "root")
    for split, count in (("train", 5), ("test", 3)):
        made = make(tmp_path / split, chosen, split)
        assert made.images.shape == (2 * count, 16, 16, 3) and np.bincount(made.labels).tolist() == [count] * 2
        assert np.array_equal(made.images.mean((1, 2, 3)) > 120, made.labels == 1)
    data = torchvision_set.open_set(chosen["name"], chosen["root"], "test", download=False)
    with pytest.raises(UserError, match=r"set data\.image_size"):
        torchvision_set.write(data, np.arange(3), None, tmp_path)


def test_a_class_of_several_names_has_them_in_words() -> None:
    imagenette = types.SimpleNamespace(classes=[("tench", "Tinca tinca"), ("church",)])
    assert torchvision_set.classes_of(imagenette, np.arange(2)) == ["tench, Tinca tinca", "church"]
    assert torchvision_set.classes_of(types.SimpleNamespace(), np.arange(2)) == ["0", "1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FashionMNIST", "FashionMNIST: cannot be read from absent and nothing was downloaded (Dataset not found"),
        ("Food101", "Food101: cannot be read from absent and nothing was downloaded (Dataset not found"),
        ("ImageNet", "ImageNet: cannot be read from absent and nothing was downloaded (The archive"),
        ("EuroSAT", "EuroSAT: torchvision gives it no test part"),
        ("Nonsense", "torchvision has no data set 'Nonsense'"),
    ],
)
def test_a_missing_set_is_one_line(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"source": source(name, Path("absent")), "split": "train", "seed": 0}
    assert main(["data", "--job", canonical({"settings": settings, "inputs": {}, "out": "out"})]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and lines[0].startswith(f"error: {message}")
    assert not Path("absent").exists() and not Path("out").exists()


def test_a_damaged_set_is_one_line(tmp_path: Path) -> None:
    root = fashion.torchvision_root(tmp_path / "root", fashion.made())
    (root / "FashionMNIST/raw/train-images-idx3-ubyte").write_bytes(b"\x00" * 7)
    with pytest.raises(UserError, match="FashionMNIST: cannot be read from"):
        torchvision_set.open_set("FashionMNIST", str(root), "train", download=False)


BOUNDED = """
import resource, sys
from pathlib import Path
from diversity_spectra.data import folder

files = sorted(Path("tree").iterdir())
kilobytes = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, ((kilobytes << 10) + (96 << 20),) * 2)
images, kept = folder.read_images(files, 512, Path("out"))
assert images.nbytes > 2 * (96 << 20) and images.shape == (300, 512, 512, 3), images.shape
assert all(image[0, 0, 0] == int(files[index].stem) % 256 for index, image in zip(kept, images))
"""


def test_images_beyond_memory_are_read(tmp_path: Path) -> None:
    """236 MB of images with 96 MB of memory, one file of them unreadable; the map itself is a file, not memory."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(300):
        Image.fromarray(np.full((2, 2, 3), number % 256, np.uint8)).save(tmp_path / "tree" / f"{number:03d}.png")
    (tmp_path / "tree" / "100x.png").write_bytes(b"no image")
    done = subprocess.run([sys.executable, "-c", BOUNDED], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images.npy"]


def test_too_many_unreadable_images_are_an_error(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="8 of 8 images cannot be read"):
        folder.read_images(sorted(tmp_path.glob("*.png")), 8, tmp_path)
