"""Training sets whose images are made when they are read: the same images, the same training, resumed and in parallel."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from diversity_spectra import devices, imageset
from diversity_spectra.augment.job import STORED_BYTES, Augment, DataRecipe, Step
from diversity_spectra.augment.variants import Variants
from diversity_spectra.cli import main
from diversity_spectra.diversity import vendi
from diversity_spectra.errors import UserError
from diversity_spectra.execution import with_origins
from diversity_spectra.files import sha256
from diversity_spectra.finetune import training
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Finetune, Network, Training
from diversity_spectra.jobs import canonical
from diversity_spectra.resume import Resume
from diversity_spectra.work import Sets

CHANGED = DataRecipe(augmentations=[Step(kind="rotation", level=30.0), Step(kind="color_jitter", level=0.5)])
MLP = Network(architecture="mlp_small", image_size=28, channels=1)
COUNT = 60


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random, labels = np.random.default_rng(0), np.arange(COUNT) % 2
    for name in ("real", "made"):
        (tmp_path / name).mkdir()
        images = random.integers(0, 255, (COUNT, 28, 28, 1), dtype=np.uint8)
        manifest = pd.DataFrame({"source": np.arange(COUNT)})
        imageset.save(tmp_path / name, images, labels, manifest, {"classes": ["a", "b"], "source": {}})
    return tmp_path


def job(out: str, **changes: object) -> Augment:
    return with_origins(Augment(**{"recipe": CHANGED, "images": "real", "folder": out, "copies": 2, **changes}), [])


def make(out: str, *arguments: str, **changes: object) -> None:
    assert main(["augment", "--job", canonical(job(out, **changes).spec), *arguments]) == 0


def test_a_set_that_is_not_stored_has_the_same_images_labels_and_key(workdir: Path) -> None:
    mixed = {"recipe": CHANGED.model_copy(update={"synthetic": 0.5, "mode": "replaced"}), "synthetic": "made"}
    make("stored", **mixed)
    make("virtual", materialise="never", **mixed)
    stored, virtual = imageset.load("stored"), imageset.load("virtual")
    assert not Path("virtual/images.npy").exists() and isinstance(virtual.images, Variants)
    assert virtual.images.shape == stored.images.shape and np.array_equal(virtual.images, stored.images)
    some = np.array([99, 3, 3, 60])
    assert np.array_equal(virtual.images[some], stored.images[some])
    assert np.array_equal(virtual.images[7, ::2, 1:], stored.images[7, ::2, 1:])
    assert np.array_equal(virtual.images[:3, ::2], stored.images[:3, ::2])
    assert np.array_equal(vendi.pixel_rows(virtual.images, some), vendi.pixel_rows(stored.images, some))
    for name in ("labels.npy", "manifest.parquet"):
        assert sha256(f"virtual/{name}") == sha256(f"stored/{name}")
    assert job("x", **mixed).key == job("x", materialise="never", **mixed).key
    assert Sets().shape("virtual") == Sets().shape("stored") == stored.images.shape


def test_what_is_stored() -> None:
    sizes = (STORED_BYTES, STORED_BYTES + 1)
    assert [job("x").stored(size) for size in sizes] == [True, False]
    assert [job("x", materialise="always").stored(size) for size in sizes] == [True, True]
    assert not job("x", materialise="always", copies="fresh").stored(1)


def test_processes_make_the_same_images_in_order(workdir: Path) -> None:
    make("virtual", materialise="never")
    images = imageset.load("virtual").images
    batches = [np.array([5, 119, 5]), np.arange(100), np.array([0])]
    for workers in (1, 2):
        made = list(images.read(iter(batches), workers))
        assert all(map(np.array_equal, made, (images[rows] for rows in batches)))


def test_other_code_or_another_source_is_no_such_set(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("virtual", materialise="never")
    monkeypatch.setattr("diversity_spectra.provenance.code_of", lambda job: "other")
    with pytest.raises(UserError, match="the code of augment changed since"):
        imageset.load("virtual")
    monkeypatch.setattr("diversity_spectra.provenance.code_of", lambda job: job.code)
    Path("real/labels.npy").unlink()
    with pytest.raises(UserError, match=r"real: not an image set, labels\.npy is missing"):
        imageset.load("virtual")


class Killed(BaseException):
    """Ends a stage as SIGKILL does: nothing is saved any more."""


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_set_that_was_ended_in_the_making_goes_on_with_the_same_bytes(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    make("whole")
    due, moments = Resume.due, []

    def ending(self: Resume) -> bool:
        moments.append(1)
        if len(moments) == 3:
            if end == "killed":
                raise Killed
            os.kill(os.getpid(), signal.SIGTERM)
        return len(moments) == 2 or due(self)  # of the four pieces

    monkeypatch.setattr(Resume, "due", ending)
    with pytest.raises(Killed if end == "killed" else SystemExit):
        make("ended", "--threads", "2")
    assert not Path("ended").exists()
    monkeypatch.undo()
    monkeypatch.chdir(workdir)
    make("ended", "--threads", "2")
    assert '"resumed": true' in Path("ended/spec.json").read_text()
    for name in ("images.npy", "labels.npy", "manifest.parquet"):
        assert sha256(f"ended/{name}") == sha256(f"whole/{name}")
    assert not list(Path("results/cache/.resume").glob("*"))


# ---------------------------------------------------------------- training


def train(out: str, images: str, threads: int = 1, **changes: object) -> str:
    """Digest of the weights."""
    recipe = Training(
        **{"steps": 20, "batch_size": 25, "lr": 1e-3, "dropout": 0.3, "dropout_where": "blocks", "flip": True}
    )
    made = Finetune(network=MLP, training=recipe.model_copy(update=changes), train=images, folder=out)
    arguments = ["--device", "cpu", "--seeds", "0", "--threads", str(threads)]
    assert main(["finetune", "train", "--job", canonical(made.spec), *arguments]) == 0
    return sha256(f"{out}/seed-0/model.safetensors")


def test_training_is_the_same_from_stored_and_from_made_images(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("stored")
    make("virtual", materialise="never")
    one_thread = torch.set_num_threads
    monkeypatch.setattr(devices.torch, "set_num_threads", lambda threads: one_thread(1))
    digests = {train("from-stored", "stored")}
    digests |= {train(f"from-virtual-{threads}", "virtual", threads) for threads in (1, 3)}
    monkeypatch.setattr(devices, "HELD_ON_CPU", 0)
    digests.add(train("from-map", "stored"))
    assert len(digests) == 1


def test_fresh_variants_are_new_in_every_epoch_and_the_same_on_any_number_of_workers(workdir: Path) -> None:
    make("fresh", copies="fresh")
    images = imageset.load("fresh")
    assert len(images) == len(images.labels) == COUNT
    first, second = images.images[np.arange(COUNT)], images.images[np.arange(COUNT, 2 * COUNT)]
    assert not (first == second).all(axis=(1, 2, 3)).any()
    make("stored")
    assert np.array_equal(np.concatenate([first, second]), imageset.load("stored").images)  # variants 0 and 1 of each
    seen = Images(images.images, images.labels, MLP, ((0.5,), (0.5,)), torch.device("cpu"))
    recipe = Training(steps=5, batch_size=25, lr=1e-3)  # 125 images: two epochs and a bit
    steps = torch.cat(list(training.batches(seen, recipe, 0, 0)))
    assert sorted(steps[:COUNT].tolist()) == list(range(COUNT))
    assert sorted(steps[COUNT : 2 * COUNT].tolist()) == list(range(COUNT, 2 * COUNT))
    assert min(steps[2 * COUNT :]) >= 2 * COUNT
    _, labels = seen.batch(steps)
    assert labels.tolist() == images.labels[steps.numpy() % COUNT].tolist()


def test_fresh_variants_train_the_same_weights_with_0_1_and_3_workers_and_after_a_kill(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("fresh", copies="fresh")
    one_thread = torch.set_num_threads
    monkeypatch.setattr(devices.torch, "set_num_threads", lambda threads: one_thread(1))
    digests = [train(f"with-{workers}", "fresh", workers + 1) for workers in (0, 1, 3)]
    due, step = training.Resume.due, training.Stepper.__call__
    steps = []

    def stopping(*arguments):
        steps.append(1)
        if len(steps) == 12:
            raise Killed
        return step(*arguments)

    monkeypatch.setattr(training.Resume, "due", lambda self: len(steps) == 9)
    monkeypatch.setattr(training.Stepper, "__call__", stopping)
    with pytest.raises(Killed):
        train("killed", "fresh", 2)
    monkeypatch.setattr(training.Resume, "due", due)
    assert train("killed", "fresh", 2) == digests[0]
    assert len(steps) == 12 + (20 - 9)
    assert len({*digests}) == 1
