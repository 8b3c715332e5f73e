"""The configuration: what is accepted, what is refused, and how it is said."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from diversity_spectra import config
from diversity_spectra.augment.job import DataRecipe, Step
from diversity_spectra.compare.job import Compare
from diversity_spectra.conditions import expand
from diversity_spectra.config import ConfigError, experiments, load, parse, read_yaml
from diversity_spectra.data.job import Digits
from diversity_spectra.diversity.job import Diversity
from diversity_spectra.finetune.job import architectures
from diversity_spectra.generate.kinds.ddpm import Ddpm
from diversity_spectra.report.job import Report
from diversity_spectra.settings import typed
from diversity_spectra.spectra.job import Spectra

ROOT = Path(__file__).parent.parent
MODEL = {"name": "mlp", "architecture": "mlp_small", "steps": 2, "lr": 1e-3}
CONFIGS = [ROOT / "config.yaml", *sorted(ROOT.glob("tests/configs/*.yaml"))]


@pytest.fixture
def tiny() -> dict:
    return read_yaml(ROOT / "tests/configs/tiny.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    experiments.load(path)


def test_the_default_names_every_key() -> None:
    """config.yaml is the manual: what it leaves out is a key of another kind of data set or generator."""
    values = read_yaml(ROOT / "config.yaml")
    for section, model in (
        ("generator", Ddpm),
        ("data", Digits),
        ("diversity", Diversity),
        ("spectra", Spectra),
        ("compare", Compare),
        ("report", Report),
        ("execution", config.Execution),
    ):
        assert set(values[section]) == set(model.model_fields) - {"validation_fraction", "precision"}, section
    written = {key for model in values["models"] for key in model}
    rare = {"options", "precision", "compile", "ema", "flip", "label_smoothing", "on_divergence"}
    rare |= {"base_weight_decay", "mixup", "cutmix", "trained_blocks", "layer_decay", "balanced", "accumulate"}
    rare |= {"split_batch_norm", "optimizer", "schedule", "decay_vectors", "tune", "evaluation_precision"}
    assert written == set(config.TrainedModel.model_fields) - rare
    commented = (ROOT / "config.yaml").read_text()
    assert all(key in commented for key in {*rare, "validation_fraction"})


def test_schema_is_current() -> None:
    stored = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert stored == config.schema(), "run `make schema`"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"difersity": {}}, "difersity: unknown key; did you mean 'diversity'?"),
        ({"experiment": "../away"}, "experiment: '../away' is not allowed"),
        ({"experiment": "cache"}, "'cache' is taken"),
        ({"copies": "2"}, "copies: '2' is not allowed; allowed: a number from 1 to 1000, or fresh"),
        ({"copies": 0}, "copies: 0 is not allowed; allowed: a number from 1 to 1000, or fresh"),
        ({"models": []}, "models: [] is not allowed"),
        ({"generator": None}, "synthetic conditions, but there is no `generator`"),
        ({"data": {"kind": "digits", "train_per_class": 400}}, "the data set has 500"),
        (
            {"data": {"kind": "digits", "train_per_clas": 3}},
            "data.train_per_clas: unknown key; did you mean 'train_per_class'?",
        ),
        (
            {"data": {"kind": "digitz"}},
            "data.kind: 'digitz' is not allowed; did you mean 'digits'? allowed: digits, image_folder, torchvision",
        ),
        ({"ood": [{"kind": "x"}]}, "ood[0].kind: 'x' is not allowed; allowed: arrays, corruption, image_folder, "),
        ({"data": {"train_per_class": 3}}, "data.kind: missing"),
        ({"data": 3}, "data: 3 is not allowed; allowed: a mapping"),
        ({"models": 3}, "models: 3 is not allowed; allowed: a list"),
        ({"seed": True}, "seed: True is not allowed"),
        ({"report": {"dpi": float("nan")}}, "report.dpi"),
        ({"generator": {"kind": "text_to_image", "model": "some/model"}}, "add `revision`"),
        ({"diversity": {"per_class": 13}}, "diversity.per_class is 13, but data.train_per_class only 12"),
        ({"ood": [{"kind": "image_folder", "name": "test", "path": "x"}]}, "the name 'test' is taken"),
        ({"ood": [{"kind": "uci_digits"}, {"kind": "uci_digits"}]}, "the name 'uci_digits' is taken"),
        ({"models": [{**MODEL, "architecture": "resnet_50"}]}, "no network 'resnet_50'; similar: resnet50"),
        ({"models": [{**MODEL, "weights": "imagenet"}]}, "'imagenet' is none of none, embedded, hub, pretrain"),
        ({"models": [{**MODEL, "weights": "embedded"}]}, "those of tf_efficientnet_lite0"),
        ({"diversity": {"embedding": "resnet_50:hub"}}, "embedding: no network 'resnet_50'; similar: resnet50"),
        ({"diversity": {"embedding": "resnet50:imagenet"}}, "embedding: 'imagenet' is none of none, embedded, hub"),
        ({"diversity": {"embedding": "resnet50:embedded"}}, "embedding: weights embedded are those of tf_effic"),
        (
            {"models": [{**MODEL, "conditions": {"synthetic": [{"ratios": [2.0]}]}}]},
            "2 synthetic images per real one are 24 of class '0', but generator.images_per_class is 12",
        ),
    ],
)
def test_mistakes_are_named(tiny: dict, change: dict, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse({**tiny, **change}, source="my.yaml")
    lines = str(raised.value).splitlines()
    assert any(expected in line for line in lines), lines
    assert all(line.startswith("my.yaml: ") for line in lines)


def test_every_mistake_has_a_line_of_its_own(tiny: dict) -> None:
    wrong = copy.deepcopy(tiny)
    wrong["copies"] = -1
    wrong["models"][0]["lr"] = "fast"
    wrong["models"][1]["conditions"]["dropout"]["rates"] = [0.5, 1.5]
    with pytest.raises(ConfigError) as raised:
        parse(wrong)
    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert any("models[0].lr: 'fast'" in line for line in lines)
    assert any("models[1].conditions.dropout.rates[1]: 1.5" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "the key 'a' is given twice"),
        ("- 1\n", "expected a mapping"),
        ("a: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("", "expected a mapping"),
    ],
)
def test_yaml_is_read_strictly(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=expected):
        read_yaml(tmp_path / "c.yaml")


def test_exponents_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: 1e-3\nb: 2.0e-3\nc: 12\n")
    assert read_yaml(tmp_path / "c.yaml") == {"a": 1e-3, "b": 2e-3, "c": 12}


def test_every_network_of_timm_is_known() -> None:
    import timm

    assert set(timm.list_models()) | {"mlp_small"} <= set(architectures())


def test_further_files_and_changes_are_laid_over_key_by_key(tmp_path: Path, tiny: dict) -> None:
    for name, values in (("base", tiny), ("other", {"seed": 5, "report": {"title": "x"}})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    changes = {"report": {"dpi": 99}}
    (config,) = experiments.load(tmp_path / "base.yaml", tmp_path / "other.yaml", changes=changes).configs
    assert (config.seed, config.report.title, config.report.dpi) == (5, "x", 99)
    assert config.models == parse(tiny).models


def test_conditions_have_readable_names() -> None:
    names = [condition.name for condition in expand(load(ROOT / "config.yaml").models[1].conditions)]
    assert names[0] == "baseline"
    assert len(set(names)) == len(names)
    for name in ("dropout-0.3", "weight_decay-0.1", "augmentation-rotation-25", "synthetic-0.5"):
        assert name in names
    assert "dropout-0.3+weight_decay-0.1" in names
    assert "augmentation-rotation-10+synthetic-0.5" in names
    assert "synthetic-replaced-0.5" in names


def test_names_fit_a_path_and_are_those_of_one_condition(tiny: dict) -> None:
    levels = {"gaussian_noise": 0.1234567, "resized_crop": 0.1234567, "random_erasing": 0.1234567, "rotation": 12.34567}
    levels |= {"color_jitter": 0.1234567, "randaugment": 9, "augmix": 3}
    combined = [{"augmentation": levels}, {"augmentation": levels, "dropout": 0.1}]
    tiny["models"][1]["conditions"] = {"dropout": {"rates": [0.1234561, 0.1234562]}, "combinations": combined}
    names = [condition.name for condition in parse(tiny).models[1].expanded()]
    assert names[1:3] == ["dropout-0.1234561", "dropout-0.1234562"]
    assert len({*names}) == 5 and max(map(len, names)) == 120
    steps = [Step(kind=kind, level=level) for kind, level in levels.items()]
    assert len(DataRecipe(augmentations=steps).name) == 120


def test_factors_of_the_recipe_are_worked_out(tiny: dict) -> None:
    asked = {"steps": [0.5, 0.001], "lr": [2.0], "label_smoothing": [0.1]}
    tiny["models"][1]["conditions"] = {"optimisation": asked}
    found = {condition.name: condition.training for condition in parse(tiny).models[1].expanded()[1:]}
    assert found == {
        "steps-0.5x": {"steps": 30},
        "steps-0.001x": {"steps": 1},
        "lr-2x": {"lr": 0.002},
        "label_smoothing-0.1": {"label_smoothing": 0.1},
    }
    with pytest.raises(ConfigError, match="a factor of 1 is the baseline"):
        asked["steps"] = [1.0]
        parse(tiny)


@pytest.mark.parametrize("command", [["diversity-spectra", "check"], ["snakemake", "-n"]])
def test_a_bad_file_ends_in_three_seconds_without_traceback(tmp_path: Path, tiny: dict, command: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({**tiny, "copies": 0, "modles": []}))
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [program, *command[1:], "--configfile", tmp_path / "bad.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout
    assert "copies: 0 is not allowed" in done.stderr
    assert "modles: unknown key; did you mean 'models'?" in done.stderr
    assert all(line.startswith(f"error: {tmp_path / 'bad.yaml'}: ") for line in done.stderr.splitlines())


def test_texts_of_a_nested_command_line_value_are_what_yaml_makes_of_them() -> None:
    """Snakemake hands over `--config compare='{bootstrap: 60}'` with a text for the number."""
    given = {"bootstrap": "60", "level": "9e-1", "day": "2024-99-99", "names": ["a", "true", ["2"]]}
    assert typed(given) == {"bootstrap": 60, "level": 0.9, "day": "2024-99-99", "names": ["a", True, [2]]}
    assert typed("60") == "60"
