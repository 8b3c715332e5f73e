"""`init`: a configuration that `check` finds good, and what its runs will be able to see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from diversity_spectra.cli import main
from diversity_spectra.config import load


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a folder of images of two classes."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        Path("my photos", name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(np.full((9, 9, 3), index, np.uint8)).save(f"my photos/{name}/{index}.png")
    return Path("my photos")


@pytest.mark.parametrize(
    "command",
    [
        ["digits"],
        ["my photos", "--seeds", "2"],
        ["my photos", "--architecture", "vgg11_bn.tv_in1k", "--weights", "hub"],
        ["digits", "--architecture", "tf_efficientnet_lite0", "--weights", "embedded", "--seeds", "1"],
    ],
    ids=" ".join,
)
def test_what_is_written_is_good_and_says_what_can_be_seen(command: list[str], photos: Path, capsys) -> None:
    assert main(["init", *command]) == 0
    told = capsys.readouterr().out
    assert "weight decay multiplies the weights over the training: " in told and " by 0.78 and " in told
    assert ("say nothing of their noise" if "1" in command else "run-to-run standard deviations") in told
    assert ("images of my photos, 2 classes:" in told) == (command[0] != "digits")
    assert main(["check", "--configfile", "mine.yaml"]) == 0
    checked = capsys.readouterr().out
    assert "mine.yaml: good (mine)" in checked and "will not be seen" not in checked
    (model,) = load("mine.yaml").models
    assert model.conditions.dropout.where == ("blocks" if model.has_blocks else "head")
    assert main(["init", *command]) == 2 and "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["digits", "--architecture", "resnet81"], "no network 'resnet81'; similar: resnet18"),
        (["nowhere"], "nowhere: no such folder"),
        (["digits", "--seeds", "0"], "mine.yaml: models[0].seeds: 0 is not allowed"),
        (["digits", "--weights", "embedded"], "weights: embedded are those of"),
    ],
)
def test_what_is_not_good_is_not_written(command: list[str], told: str, photos: Path, capsys) -> None:
    assert main(["init", *command]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1, error
    assert not Path("mine.yaml").exists()


def test_the_noise_of_earlier_runs_of_the_network_counts(photos: Path, capsys) -> None:
    place = Path("results/before/tables")
    place.mkdir(parents=True)
    models = [{"name": "mlp", "architecture": "mlp_small"}, {"name": "cnn", "architecture": "resnet18"}]
    (place.parent / "spec.json").write_text(json.dumps({"key": "0", "settings": {"config": {"models": models}}}))
    rows = [
        {"model": name, "family": family, "condition": condition, "effect": effect, "smallest_detectable": 0.5}
        for name in ("mlp", "cnn")
        for family, condition, effect in [
            ("dropout", "", 9),
            ("dropout", "dropout-0.3", 2),
            ("dropout", "dropout-0.1", 1),
        ]
    ]
    pd.DataFrame(rows).assign(n=8, n_baseline=16).to_parquet(place / "controls.parquet")
    assert main(["init", "digits", "--seeds", "2"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "by the noise of" in line]
    # A quarter of the runs see twice the shift.
    assert (
        line.startswith("by the noise of results/before, mlp: 2 runs against 4 will see")
        and "from 1.00 standard" in line
    )
    assert line.endswith("the largest shifts were 2.0 of dropout")
