"""Training sets: mixing real and synthetic images, and every kind of augmentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, copy_checkout
from pydantic import ValidationError

from diversity_spectra import imageset
from diversity_spectra.augment.job import Step
from diversity_spectra.augment.kinds import KINDS, Kind
from diversity_spectra.augment.recipe import augmented, mix
from diversity_spectra.cli import main
from diversity_spectra.conditions.families.augmentation import Augmentation, expand
from diversity_spectra.errors import UserError

CLASSES = ["a", "b"]
REAL = np.repeat([0, 1], 20)
SYNTHETIC = np.tile([0, 1], 40)
# A weak and a strong level of the kinds that come with the package.
LEVELS = {
    "gaussian_noise": (0.05, 0.3),
    "rotation": (5, 45),
    "resized_crop": (0.95, 0.2),
    "random_erasing": (0.05, 0.5),
    "color_jitter": (0.1, 0.9),
    "randaugment": (3, 20),
    "augmix": (1, 8),
    "autoaugment": (0.3, 1.0),
    "trivialaugment": (0.3, 1.0),
    "horizontal_flip": (0.3, 1.0),
    "vertical_flip": (0.3, 1.0),
    "elastic": (10, 60),
}


def counts(members: list[tuple[str, int]]) -> dict[str, list[int]]:
    labels = {"real": REAL, "synthetic": SYNTHETIC}
    return {
        origin: np.bincount([labels[o][i] for o, i in members if o == origin], minlength=2).tolist()
        for origin in labels
    }


def test_added_and_replaced() -> None:
    assert counts(mix(REAL, SYNTHETIC, 0.5, "added", 0, CLASSES)) == {"real": [20, 20], "synthetic": [10, 10]}
    assert counts(mix(REAL, SYNTHETIC, 0.25, "replaced", 0, CLASSES)) == {"real": [15, 15], "synthetic": [5, 5]}
    assert counts(mix(REAL, SYNTHETIC, 1.0, "replaced", 0, CLASSES)) == {"real": [0, 0], "synthetic": [20, 20]}


def test_a_larger_ratio_holds_the_smaller_one() -> None:
    small = set(mix(REAL, SYNTHETIC, 0.5, "added", 0, CLASSES))
    large = set(mix(REAL, SYNTHETIC, 1.5, "added", 0, CLASSES))
    assert small < large


def test_too_few_synthetic_images_are_named() -> None:
    with pytest.raises(UserError, match="takes 60 synthetic images, 40 are usable"):
        mix(REAL, SYNTHETIC, 3, "added", 0, CLASSES)


@pytest.mark.parametrize(
    ("change", "given"),
    [
        (lambda image: 1 - image / 255, r"\(1, 6, 6\) of torch.float32"),
        (lambda image: image[:, ::2], r"\(1, 3, 6\) of torch.uint8"),
    ],
)
def test_a_kind_that_makes_no_image_is_named(monkeypatch, change, given) -> None:
    monkeypatch.setitem(KINDS, "wrong", Kind(lambda image, level, generator: change(image), "", float, {}))
    with pytest.raises(
        UserError, match=rf"augmentation wrong made an image {given}, expected \(1, 6, 6\) of torch.uint8"
    ):
        augmented(np.full((6, 6, 1), 9, dtype=np.uint8), [Step(kind="wrong", level=1.0)], 0, 0, "real", 0)


def test_a_kind_that_is_not_there_is_one_line(capsys) -> None:
    recipe = {"augmentations": [{"kind": "rotatoin", "level": 15}]}
    job = {"settings": {"recipe": recipe}, "inputs": {"images": "x"}, "out": "y"}
    assert main(["augment", "--job", json.dumps(job)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "settings.recipe.augmentations[0].kind: no augmentation 'rotatoin'; known here: augmix, " in line


def test_every_kind_in_the_configuration_is_there() -> None:
    assert [*KINDS, "composed"] == list(Augmentation.model_fields)
    assert set(LEVELS) <= set(KINDS)


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_kinds_change_images_more_at_higher_levels(kind: str, channels: int) -> None:
    random = np.random.default_rng(0)
    images = np.zeros((24, 28, 28, channels), np.uint8)
    images[:, 8:20, 8:20] = random.integers(100, 255, (24, 12, 12, channels))

    def changed(level: float) -> float:
        variants = [augmented(image, [Step(kind=kind, level=level)], 0, 0, "real", i) for i, image in enumerate(images)]
        assert all(v.shape == images.shape[1:] and v.dtype == np.uint8 for v in variants)
        return float(np.mean([np.abs(v.astype(int) - i).mean() for v, i in zip(variants, images, strict=True)]))

    weak, strong = (changed(level) for level in LEVELS[kind])
    assert 0 < weak < strong


def test_kinds_are_composed_in_the_order_given() -> None:
    """Under a name of their own, each level within its kind's limits."""
    auto = {"auto2": {"autoaugment": 1, "vertical_flip": 0.3, "gaussian_noise": 0.05}}
    found = list(expand(Augmentation.model_validate({"composed": auto, "rotation": [10.0]}), None))
    assert [one.name for one in found] == ["augmentation-rotation-10", "augmentation-auto2"]
    assert found[1].data.name == "autoaugment-1+vertical_flip-0.3+gaussian_noise-0.05"
    for wrong in (
        {"rotation": auto["auto2"]},
        {"x": {"rotation": 10}},
        {"x": {"rotation": 10, "y": 1}},
        {"x": {"rotation": 10, "vertical_flip": 2}},
    ):
        with pytest.raises(ValidationError):
            Augmentation.model_validate({"composed": wrong})


def test_a_variant_depends_on_its_image_and_copy_only() -> None:
    image = np.random.default_rng(1).integers(0, 255, (28, 28, 1), dtype=np.uint8)
    first = augmented(image, [Step(kind="rotation", level=30.0)], 0, 0, "real", 7)
    assert np.array_equal(first, augmented(image, [Step(kind="rotation", level=30.0)], 0, 0, "real", 7))
    assert not np.array_equal(first, augmented(image, [Step(kind="rotation", level=30.0)], 1, 0, "real", 7))


def test_noise_has_the_level_it_says() -> None:
    image = np.full((64, 64, 1), 128, np.uint8)
    noisy = augmented(image, [Step(kind="gaussian_noise", level=0.1)], 0, 0, "real", 0).astype(float)
    assert abs(noisy.std() / 255 - 0.1) < 0.005


def test_the_tutorials_kind_is_one_small_file(tmp_path: Path) -> None:
    """Validated, planned, applied and in the reference, with no other file touched."""
    tutorial = (ROOT / "docs/tutorial.md").read_text()
    code = re.search(r"```python\n(.*?@augmentation.*?)```", tutorial, re.DOTALL)[1]
    code = re.sub("^   ", "", code, flags=re.MULTILINE)
    assert len(code.splitlines()) <= 15
    checkout = copy_checkout(tmp_path)
    (tmp_path / "workflow/diversity_spectra/augment/kinds/invert.py").write_text(code)

    def written(level: float) -> str:
        model = {"name": "mlp", "architecture": "mlp_small", "image_size": 28, "channels": 1, "steps": 2, "lr": 1e-3}
        model["conditions"] = {"augmentation": {"invert": [level]}}
        data = {"kind": "digits", "train_per_class": 10, "test_per_class": 2, "pool_per_class": 1}
        config = {
            "experiment": "inverted",
            "data": data,
            "copies": 2,
            "models": [model],
            "diversity": {"per_class": 10},
        }
        (tmp_path / "invert.yaml").write_text(yaml.safe_dump(config))
        return "invert.yaml"

    refused = checkout.run("diversity-spectra", "check", "--configfile", written(2.0), check=False)
    place = "models[0].conditions.augmentation.invert[0]"
    assert refused.stderr.strip() == (
        f"error: invert.yaml: {place}: 2.0 is not allowed; allowed: less than or equal to 1"
    )
    planned = checkout.run("diversity-spectra", "plan", "--configfile", written(0.5)).stdout
    assert re.search(r"augmentation-invert-0.5 +3 runs on invert-0.5", planned)
    checkout.snakemake("--cores", "1", "--until", "augment", config="invert.yaml")
    (made,) = tmp_path.glob("results/cache/augment/invert-0.5-*")
    images = imageset.load(made)
    (plain,) = tmp_path.glob("results/cache/data/digits-train-*")
    originals = imageset.load(plain).images[imageset.read_manifest(made)["source"]]
    same = (images.images == originals).all(axis=(1, 2, 3))
    inverted = (images.images == 255 - originals).all(axis=(1, 2, 3))
    checkout.run("python", "docs/generate.py")
    keys = (tmp_path / "docs/reference/config.md").read_text()
    assert "| `invert` | list of numbers | `[]` | each > 0, <= 1 | share of the images |" in keys
    assert (same ^ inverted).all()
    assert 0.3 < inverted.mean() < 0.7


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1\ndef mine(:\n", "line 2: invalid syntax"),
        (
            "from diversity_spectra.augment.kinds import unifrm\n",
            "line 1: cannot import name 'unifrm' from 'diversity_",
        ),
        (
            "from diversity_spectra.augment import kinds\n\n@kinds.augmentation('unit', lee=1)\ndef mine(): ...\n",
            "line 3: unknown limit 'lee'; known here: gt, ge, lt, le",
        ),
        (
            "from diversity_spectra.augment import kinds\n\n@kinds.augmentation('unit')\ndef augmix(image, level, generator): ...\n",
            "line 3: augment.kinds.augmix has a kind 'augmix' too; one of them needs another name",
        ),
        (
            "from diversity_spectra.augment import kinds\n\n@kinds.augmentation('unit')\ndef mine(image, generator): ...\n",
            "line 3: mine takes 2 arguments, not image, level, generator",
        ),
    ],
    ids=["syntax", "import", "limit", "name", "arguments"],
)
def test_a_mistake_in_a_kind_is_one_line(tmp_path: Path, code: str, expected: str) -> None:
    checkout = copy_checkout(tmp_path)
    module = "workflow/diversity_spectra/augment/kinds/mine.py"
    (tmp_path / module).write_text(code)
    commands = [("diversity-spectra", "check"), ("snakemake", "-n", "--cores", "1")]
    for command in commands:
        done = checkout.run(*command, check=False)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {module}, {expected}")
