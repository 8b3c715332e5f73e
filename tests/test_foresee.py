"""What `check` says beforehand, by arithmetic."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest

from diversity_spectra.cli import main
from diversity_spectra.config import parse
from diversity_spectra.planning import foresee
from diversity_spectra.settings import read_yaml

ROOT = Path(__file__).parent.parent
TINY = read_yaml(ROOT / "tests/configs/tiny.yaml")


def notes(**changes: object) -> list[str]:
    """Of the tiny experiment's `mlp` alone, changed."""
    config = copy.deepcopy(TINY)
    config["models"] = [config["models"][1] | changes]
    return list(foresee.notes(parse(config)))


def test_a_decay_that_will_not_be_seen_is_named() -> None:
    conditions = {"weight_decay": {"values": [0.1, 3.0]}}
    (weak,) = [note for note in notes(conditions=conditions) if "decay" in note]
    # 60 steps at 1e-3, half of it on average: exp(-0.5 x 60 x 1e-3 x 0.1).
    assert "0.1 by 1 - 0.003;" in weak and "3 by" not in weak
    assert not [note for note in notes() if "decay" in note]


def test_the_shrinkage_is_that_of_the_schedule() -> None:
    """Against the product over a linear warm-up and a cosine, step by step."""
    model = parse(TINY).models[1]
    steps = np.arange(1000) / 1000
    rates = np.where(steps < 0.1, steps / 0.1, 0.5 * (1 + np.cos(math.pi * (steps - 0.1) / 0.9)))
    long = model.model_copy(update={"steps": 1000})
    assert foresee.shrinkage(long, 1.0) == pytest.approx(np.prod(1 - model.lr * rates), rel=1e-3)


def test_how_large_a_shift_so_many_runs_find() -> None:
    (power,) = [note for note in notes(seeds=8, baseline_runs=16) if "standard deviations" in note]
    assert "8 runs of a condition against 16 of the baseline" in power and "of 1.2 run-to-run" in power
    rng = np.random.default_rng(0)
    size = foresee.detectable(8, 16)
    shift = size + rng.normal(size=(20000, 8)).mean(1) - rng.normal(size=(20000, 16)).mean(1)
    assert np.mean(np.abs(shift) > 1.96 * math.sqrt(1 / 8 + 1 / 16)) == pytest.approx(0.8, abs=0.01)
    assert "say nothing of their noise" in notes(seeds=1)[0]


def test_a_transformer_with_one_token_is_named() -> None:
    note = notes(architecture="vit_base_patch32_224", image_size=32, resize="bicubic", channels=3)[-1]
    assert "patches of 32: one token" in note
    assert "token" not in " ".join(notes(architecture="vit_base_patch16_224", image_size=32, channels=3))
    assert "token" not in " ".join(notes(architecture="vit_tiny_patch16_224", options={"patch_size": 7}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, False),
        ({"copies": "fresh"}, True),
        ({"copies": "fresh", "execution": {"device": "cuda", "threads": 2}}, False),
        ({"copies": "fresh", "execution": {"device": "cpu"}}, False),
        ({"execution": {"materialise": "never"}}, True),
        ({"data": {"kind": "torchvision", "name": "STL10"}, "copies": 200, "ood": []}, True),
    ],
)
def test_a_gpu_that_waits_for_its_images_is_named(settings: dict, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresee, "gpus", lambda: ["a GPU"])
    config = copy.deepcopy(TINY) | {"generator": None} | settings
    config["models"] = [config["models"][1] | {"conditions": {"augmentation": {"rotation": [20.0]}}}]
    assert any("GPU waits" in note for note in foresee.notes(parse(config))) == said
    config["models"][0]["conditions"] = {"dropout": {"rates": [0.3]}}
    assert not any("GPU waits" in note for note in foresee.notes(parse(config))), "nothing is made"


def test_check_prints_what_it_foresees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(foresee, "gpus", list)
    text = (ROOT / "tests/configs/tiny.yaml").read_text() + "execution: {device: cuda}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["check", "--configfile", str(tmp_path / "mine.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("good (tiny)")
    assert "note: execution.device is cuda, and no GPU is seen on this machine: fine where jobs run elsewhere" in lines
