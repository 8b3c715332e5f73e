"""Synthetic images: training the generator, and images that depend on their own seed only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.generate import command, ddpm
from diversity_spectra.jobs import canonical

TRAIN = {"kind": "ddpm", "channels": [8, 16], "lr": 2e-3, "batch_size": 16, "train_steps": 10}
SAMPLE = {"kind": "ddpm", "images_per_class": 5, "inference_steps": 2, "guidance": 1.5}


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator")
    random = np.random.default_rng(0)
    (folder / "train").mkdir()
    labels = np.arange(30) % 3
    images = random.integers(0, 255, (30, 28, 28, 1), dtype=np.uint8)
    meta = {"classes": ["a", "b", "c"], "source": {}}
    imageset.save(folder / "train", images, labels, pd.DataFrame({"source": labels}), meta)
    run(
        ["train"],
        {"settings": {"source": TRAIN}, "inputs": {"images": str(folder / "train")}, "out": str(folder / "model")},
    )
    return folder


def run(arguments: list[str], job: dict) -> None:
    assert main(["generate", *arguments, "--job", canonical(job)]) == 0


def sample(folder: Path, out: Path, batch: int, shard: list[int], **changes: object) -> imageset.ImageSet:
    inputs = {"generator": str(folder / "model"), "images": str(folder / "train")}
    run(
        ["sample", "--batch-size", str(batch)],
        {"settings": {"source": {**SAMPLE, **changes}, "shard": shard}, "inputs": inputs, "out": str(out)},
    )
    return imageset.load(out)


def test_images_do_not_depend_on_batch_or_shards(generator: Path, tmp_path: Path) -> None:
    one = sample(generator, tmp_path / "one", 64, [0, 1])
    assert one.images.shape == (15, 28, 28, 1)
    for batch in (1, 3, 8):
        assert np.array_equal(sample(generator, tmp_path / f"batch{batch}", batch, [0, 1]).images, one.images)
    for shards in (2, 5):
        parts = [str(tmp_path / f"shard{shard}of{shards}") for shard in range(shards)]
        for shard, part in enumerate(parts):
            sample(generator, Path(part), 4, [shard, shards])
        joined = tmp_path / f"joined{shards}"
        run(["join"], {"settings": {}, "inputs": {"shards": parts}, "out": str(joined)})
        both = imageset.load(joined)
        assert np.array_equal(both.images, one.images) and np.array_equal(both.labels, one.labels)


KILLED = """
import os, signal, sys
from diversity_spectra.generate import ddpm
pieces = 0
draw = ddpm.Trained.draw
def drawn(self, indices):
    global pieces
    pieces += 1
    if pieces == 3:
        os.kill(os.getpid(), signal.{signal})
    return draw(self, indices)
ddpm.Trained.draw = drawn
from diversity_spectra.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.faults
@pytest.mark.parametrize(("signal", "code", "kept"), [("SIGKILL", -9, 64), ("SIGTERM", 143, 96)])
def test_a_killed_shard_goes_on_where_it_was(
    generator: Path, tmp_path: Path, signal: str, code: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = {**SAMPLE, "images_per_class": 40}
    inputs = {"generator": str(generator / "model"), "images": str(generator / "train")}
    for name in ("whole", "killed"):
        job = canonical({"settings": {"source": source}, "inputs": inputs, "out": name})
        command = ["generate", "sample", "--batch-size", "32", "--save-every", "0", "--device", "cpu", "--job", job]
        if name == "killed":
            stopped = subprocess.run([sys.executable, "-c", KILLED.format(signal=signal), *command])
            assert stopped.returncode == code and not Path(name).exists()
        done = subprocess.run([sys.executable, "-m", "diversity_spectra.cli", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(Path(name, "spec.json").read_text())["resumed"] == (name == "killed")
    assert f"resuming at step {kept} " in done.stderr and "32 of 120 images" not in done.stderr
    for file in ("images.npy", "labels.npy"):
        assert Path("whole", file).read_bytes() == Path("killed", file).read_bytes()
    pd.testing.assert_frame_equal(imageset.read_manifest("whole"), imageset.read_manifest("killed"))
    assert not list(Path("results/cache/.resume").iterdir()), "nothing is left behind"


@pytest.mark.parametrize(("seconds", "sizes"), [(0, [32, 32, 32, 24]), (1e9, [32, 88])])
def test_images_that_take_long_are_drawn_few_together(
    generator: Path, tmp_path: Path, seconds: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, draw = [], ddpm.Trained.draw
    monkeypatch.setattr(command, "TOGETHER", seconds)
    monkeypatch.setattr(ddpm.Trained, "draw", lambda self, piece: [drawn.append(len(piece)), draw(self, piece)][1])
    sample(generator, tmp_path / "one", 90, [0, 1], images_per_class=40)
    assert drawn == sizes


def test_the_manifest_says_how_each_image_was_made(generator: Path, tmp_path: Path) -> None:
    made = sample(generator, tmp_path / "one", 64, [0, 1])
    manifest = imageset.read_manifest(tmp_path / "one")
    assert manifest["label"].tolist() == made.labels.tolist() == list(range(3)) * 5
    assert manifest["seed"].is_unique and set(manifest["class"]) == {"a", "b", "c"}
    assert {"index", "prompt", "kept", "reason"} <= set(manifest)


def test_blank_images_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    images = np.zeros((3, 8, 8, 1), np.uint8)
    manifest = pd.DataFrame({"index": [2, 0, 1], "kept": [True, False, True], "reason": ["", "blank", ""]})
    imageset.save(tmp_path / "part", images, np.array([2, 0, 1]), manifest, {"classes": ["a", "b", "c"], "source": {}})
    run(["join"], {"settings": {}, "inputs": {"shards": [str(tmp_path / "part")]}, "out": str(tmp_path / "joined")})
    joined = imageset.load(tmp_path / "joined")
    assert joined.labels.tolist() == [1, 2]
    assert joined.meta["rejected"] == 1 and joined.meta["drawn"] == 3


def test_what_only_draws_is_not_trained(capsys: pytest.CaptureFixture) -> None:
    job = {"settings": {"source": {"kind": "image_set", "path": "x"}}, "inputs": {"images": "x"}, "out": "y"}
    assert main(["generate", "train", "--job", canonical(job)]) == 2
    assert "settings.source: a generator of kind image_set is not trained here" in capsys.readouterr().err
