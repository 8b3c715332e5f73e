"""Training: models, dropout, recipes, exact resume, and what becomes of a run that fails.

Long because one small data set and one way to train serve all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from diversity_spectra import devices, imageset
from diversity_spectra.cli import main
from diversity_spectra.errors import UserError
from diversity_spectra.evaluate.job import Evaluate
from diversity_spectra.files import sha256
from diversity_spectra.finetune import command, layerwise, models, training
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Finetune, Network, Pretrain, Training
from diversity_spectra.finetune.pretrain import QuarterTurns, pretrain
from diversity_spectra.jobs import canonical
from diversity_spectra.resume import Resume
from diversity_spectra.spectra.job import Analyse

RECIPE = Training(steps=30, batch_size=8, lr=1e-3, dropout=0.3, dropout_where="blocks", weight_decay=0.5)


def network(architecture: str, side: int = 32, channels: int = 3, **options: object) -> Network:
    return Network.model_construct(
        architecture=architecture, channels=channels, image_size=side, options=options, resize="pad"
    )


MLP = network("mlp_small", 28, 1)


def recipe(**changes: object) -> Training:
    return Training(**{**RECIPE.model_dump(), **changes})


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small training set of two kinds of stripes."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = random.integers(0, 60, (40, 28, 28, 1), dtype=np.uint8)
    images[labels == 0, ::2] += 150
    images[labels == 1, :, ::2] += 150
    (tmp_path / "train").mkdir()
    manifest = pd.DataFrame({"source": np.arange(40)})
    imageset.save(tmp_path / "train", images, labels, manifest, {"classes": ["rows", "columns"], "source": {}})
    return tmp_path


def job(out: str, **changes: object) -> str:
    made = Finetune(name="mlp/x", network=MLP, training=recipe(**changes), train="train", folder=out)
    return canonical(made.spec)


def train(out: str, *seeds: int, **changes: object) -> int:
    return main(["finetune", "train", "--job", job(out, **changes), "--device", "cpu", "--seeds", *map(str, seeds)])


def test_a_run_learns_and_is_recorded(workdir: Path) -> None:
    assert train("out", 0, steps=200) == 0
    run = json.loads(Path("out/seed-0/run.json").read_text())
    assert run["train_accuracy"] > 0.95
    assert run["dropout_places"] == ["drop1", "drop2"]
    assert run["layers"] == ["fc1", "fc2", "head"]
    assert not Path("results/cache/.resume").exists() or not any(Path("results/cache/.resume").iterdir())
    spec = json.loads(Path("out/seed-0/spec.json").read_text())
    assert spec["seed"] == 0 and spec["device"] == "cpu" and spec["outputs"]["model.safetensors"]
    assert spec["threads"] == 1, "their number changes the last bits"


def test_a_result_does_not_depend_on_its_block(workdir: Path) -> None:
    train("together", 0, 1)
    train("alone", 1)
    assert sha256("together/seed-1/model.safetensors") == sha256("alone/seed-1/model.safetensors")
    assert sha256("together/seed-0/model.safetensors") != sha256("alone/seed-1/model.safetensors")


def test_finished_seeds_are_kept_when_others_are_added(workdir: Path) -> None:
    train("out", 0)
    before = Path("out/seed-0/spec.json").read_text()
    time.sleep(1.1)
    train("out", 0, 1)
    assert Path("out/seed-0/spec.json").read_text() == before, "its start and end are the earlier ones"
    assert Path("out/seed-1/model.safetensors").exists()


@pytest.mark.parametrize("stage", ["evaluate", "spectra"])
def test_a_block_that_fails_keeps_the_runs_before(workdir: Path, capsys: pytest.CaptureFixture, stage: str) -> None:
    train("out", 0, 1, 2)
    weights = Path("out/seed-2/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    shared = {"name": "mlp/x", "runs": "out", "folder": "made"}
    jobs = {"evaluate": Evaluate(network=MLP, sets={"test": "train"}, **shared), "spectra": Analyse(**shared)}
    assert main([stage, "--job", canonical(jobs[stage].spec), "--seeds", "0", "1", "2"]) == 2
    assert "seed-2/model.safetensors is damaged" in capsys.readouterr().err
    assert sorted(path.parent.name for path in Path("made").glob("*/spec.json")) == ["seed-0", "seed-1"]
    # A process may be killed between a result and the end of the weights that it was made from.
    again = [stage, "--job", canonical(jobs[stage].spec), "--seeds", "0", "1", "--keep-weights", "first_seed"]
    assert main([*again, "--readers", "unread"]) == 0 and Path("out/seed-1/model.safetensors").exists()
    assert main(again) == 0
    assert Path("out/seed-0/model.safetensors").exists() and not Path("out/seed-1/model.safetensors").exists()


class Watch:
    """In the place of the saved states: calls a function after every step but the last."""

    stopping = False

    def __init__(self, after_step: Callable[[], object] = lambda: None):
        self.after_step = after_step

    def load(self) -> None: ...

    def due(self) -> bool:
        self.after_step()
        return False

    def watching(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_kappa_is_what_decay_alone_does(workdir: Path, ema: float) -> None:
    """With no gradient AdamW's decay shrinks every matrix by kappa, and no vector."""
    settings = recipe(dropout=0.0, ema=ema)
    model = models.create(MLP, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    images = imageset.load("train")
    batches = Images(images.images, images.labels, MLP, models.normalisation(model), torch.device("cpu"))
    # Constant logits have no gradient, so only the decay acts.
    model.forward = lambda batch: sum(p.sum() for p in model.parameters()) * 0 + torch.zeros(len(batch), 2)

    training.train(model, batches, settings, 0, Watch())
    kappa = training.decay_factor(settings)
    assert kappa < 0.999 and (kappa > training.decay_factor(recipe(dropout=0.0))) == bool(ema)
    for name, parameter in model.named_parameters():
        expected = before[name] * kappa if parameter.ndim > 1 else before[name]
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("sgd", lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, **options)),
    ],
)
def test_an_optimizer_is_that_of_a_plain_loop(workdir: Path, name: str, plain: Callable) -> None:
    """Same batches, 50 steps, no clipping, constant rate, decay of everything: the same weights to rounding."""
    changes = {
        "optimizer": name,
        "schedule": "constant",
        "warmup": 0.0,
        "clip": None,
        "decay_vectors": True,
        "dropout": 0.0,
    }
    settings = recipe(**changes, steps=50, weight_decay=0.05, lr=1e-3)
    torch.manual_seed(0)
    model, twin = models.create(MLP, 2), models.create(MLP, 2)
    twin.load_state_dict(model.state_dict())
    images = imageset.load("train")
    batches = Images(images.images, images.labels, MLP, models.normalisation(model), torch.device("cpu"))
    training.train(model, batches, settings, 0, Watch())

    optimizer = plain(twin.parameters(), lr=1e-3, weight_decay=0.05)
    order = torch.cat([training.epoch_order(len(images), epoch, 0) for epoch in range(10)])
    twin.train()
    for step in range(50):
        pixels, labels = batches.batch(order[8 * step : 8 * step + 8], None)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(twin(pixels), labels).backward()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert (training.decay_factor(settings) < 1) == (name == "adamw")


def test_every_condition_may_decay_and_a_family_adds_its_own(workdir: Path) -> None:
    base = {"dropout": 0.0, "base_weight_decay": 0.2}
    assert layerwise.decay(recipe(**base)) == pytest.approx(0.7)
    assert layerwise.decay(recipe(**base, weight_decay=0.0)) == 0.2
    kappas = []
    for changes in ({"base_weight_decay": 0.7, "weight_decay": 0.0}, {"base_weight_decay": 0.2}):
        assert train(f"out{len(kappas)}", 0, **{**base, **changes}) == 0
        kappas.append(json.loads(Path(f"out{len(kappas)}/seed-0/run.json").read_text())["kappa"])
    assert kappas[0] == pytest.approx(kappas[1]) and kappas[0] < 1
    assert sha256("out0/seed-0/model.safetensors") == sha256("out1/seed-0/model.safetensors")


def test_what_timm_excepts_from_decay_does_not_decay() -> None:
    from timm.optim import param_groups_weight_decay

    for architecture in ("test_vit", "test_resnet", "test_efficientnet"):
        model = models.create(network(architecture), 3)
        excepted = getattr(model, "no_weight_decay", set)()
        groups = param_groups_weight_decay(model, 0.1, no_weight_decay_list=excepted)
        theirs = {group["weight_decay"]: group["params"] for group in groups}
        ours = {g["weight_decay"]: g["params"] for g in layerwise.parameter_groups(model, recipe(weight_decay=0.1))}
        assert all({id(p) for p in ours[decay]} == {id(p) for p in theirs[decay]} for decay in (0.1, 0.0))


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}], ids=str)
def test_mixed_images_change_the_training_and_nothing_of_its_order(workdir: Path, changes: dict) -> None:
    for name, settings in (("plain", {}), ("one", changes), ("other", changes)):
        assert train(name, 0, dropout=0.0, **settings) == 0
    plain, one, other = (sha256(f"{name}/seed-0/model.safetensors") for name in ("plain", "one", "other"))
    assert one == other != plain


def test_a_mixed_target_is_shared_by_the_classes_of_its_images() -> None:
    torch.manual_seed(0)
    images, labels = torch.stack([torch.full((3, 8, 8), float(k)) for k in range(4)]), torch.arange(4)
    mixed, targets = training.mixer(recipe(mixup=1.0), 4)(images, labels)
    assert targets.shape == (4, 4) and torch.allclose(targets.sum(1), torch.ones(4))
    torch.testing.assert_close(mixed[:, 0, 0, 0], targets @ torch.arange(4.0))
    assert training.mixer(recipe(), 4) is None


def test_averaged_weights_are_the_moving_average_over_the_steps(workdir: Path) -> None:
    settings = recipe(ema=0.8)
    images = imageset.load("train")

    def trained(settings: Training, after_step: Callable[[torch.nn.Module], object]) -> torch.nn.Module:
        torch.manual_seed(0)
        model = models.create(MLP, 2, None, 0.3, "blocks")
        batches = Images(images.images, images.labels, MLP, models.normalisation(model), torch.device("cpu"))
        training.train(model, batches, settings, 0, Watch(lambda: after_step(model)))
        return model

    steps: list[torch.Tensor] = []
    last = trained(RECIPE, lambda model: steps.append(model.fc1.weight.detach().clone()))
    average = steps[0]
    for step, weight in enumerate([*steps[1:], last.fc1.weight.detach()], 1):
        kept = min(0.8, 1 - (1 + step) ** (-2 / 3))
        average = kept * average + (1 - kept) * weight
    found = trained(settings, lambda model: None).fc1.weight
    torch.testing.assert_close(found, average, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found, last.fc1.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_learns_the_same(workdir: Path) -> None:
    from torch._dynamo.utils import counters

    train("eager", 0, dropout=0.0)
    assert not counters["stats"]["unique_graphs"]
    assert train("compiled", 0, dropout=0.0, compile=True) == 0
    assert counters["stats"]["unique_graphs"]
    eager, compiled = (load_file(f"{out}/seed-0/model.safetensors") for out in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()
    for name in eager:
        torch.testing.assert_close(eager[name], compiled[name], rtol=1e-3, atol=1e-4)


def test_a_missing_compiler_is_named(workdir: Path) -> None:
    command = [sys.executable, "-m", "diversity_spectra.cli", "finetune", "train", "--job", job("out", compile=True)]
    environment = {
        **os.environ,
        "CXX": str(workdir / "no-compiler"),
        "TORCHINDUCTOR_CACHE_DIR": str(workdir / "compiled"),
    }
    done = subprocess.run(
        [*command, "--device", "cpu", "--seeds", "0"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: mlp/x, seed 0: torch cannot compile here (InvalidCxxCompiler" in done.stderr


def test_learning_rate_rises_and_falls() -> None:
    rates = [training.learning_rate(step, RECIPE) for step in range(30)]
    assert rates[2] == max(rates) == 1e-3 and rates[0] < rates[1] < rates[2] and rates[-1] < 1e-5
    assert rates[2:] == sorted(rates[2:], reverse=True)
    linear, constant = (
        training.learning_rate(15, recipe(schedule=name, warmup=0.0)) for name in ("linear", "constant")
    )
    assert (linear, constant) == pytest.approx((5e-4, 1e-3))


def test_every_image_is_seen_once_per_epoch() -> None:
    images = Images(np.zeros((35, 2, 2, 1), np.uint8), np.zeros(35, int), MLP, ((0.5,), (0.5,)), torch.device("cpu"))
    steps = list(training.batches(images, recipe(batch_size=7, steps=15), 0, 0))
    assert all(map(torch.equal, steps[9:], training.batches(images, recipe(batch_size=7, steps=15), 0, 9)))
    seen = torch.cat(steps).tolist()
    assert all(sorted(seen[start : start + 35]) == list(range(35)) for start in (0, 35, 70))


def test_the_average_of_a_short_training_is_trained(workdir: Path) -> None:
    accuracies = []
    images = imageset.load("train")
    for ema in (0.0, 0.999):
        torch.manual_seed(0)
        model = models.create(MLP, 2)
        batches = Images(images.images, images.labels, MLP, models.normalisation(model), torch.device("cpu"))
        training.train(model, batches, recipe(steps=60, dropout=0.0, weight_decay=0.0, lr=1e-3, ema=ema), 0, Watch())
        with torch.no_grad():
            logits = model(batches.batch(torch.arange(40))[0])
        accuracies.append((logits.argmax(1) == batches.labels).float().mean().item())
    assert accuracies == [1, 1]


def test_the_average_slows_down_as_that_of_timm() -> None:
    from timm.utils import ModelEmaV3

    theirs = ModelEmaV3(torch.nn.Linear(1, 1), decay=0.95, use_warmup=True)
    for step in (0, 1, 5, 88, 89, 1000):
        assert training.average_decay(step, recipe(ema=0.95)) == pytest.approx(theirs.get_decay(step + 1))


KILLED = """
import os, signal, sys
from diversity_spectra import resume
count = 0
original = resume.Resume.due
def due(self):
    global count
    count += 1
    if count == {at}:
        {action}
    return original(self)
resume.Resume.due = due
from diversity_spectra.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("action", "code"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("os.kill(os.getpid(), signal.SIGTERM)", 143)],
    ids=["SIGKILL", "SIGTERM"],
)
@pytest.mark.parametrize(
    "changes",
    [{}, *(pytest.param(other, marks=pytest.mark.faults) for other in ({"precision": "bfloat16"}, {"ema": 0.9}))],
    ids=str,
)
def test_a_resumed_run_has_the_same_bits(workdir: Path, action: str, code: int, changes: dict) -> None:
    train("whole", 3, **changes)
    arguments = ["finetune", "train", "--job", job("resumed", **changes), "--device", "cpu", "--seeds", "3"]
    arguments += ["--save-every", "0.0001"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(at=17, action=action), *arguments], capture_output=True, text=True
    )
    assert killed.returncode == code, killed.stderr
    assert not Path("resumed/seed-3").exists()
    again = subprocess.run([sys.executable, "-m", "diversity_spectra.cli", *arguments], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "resuming at step" in again.stderr
    assert sha256("whole/seed-3/model.safetensors") == sha256("resumed/seed-3/model.safetensors")
    assert Path("whole/seed-3/run.json").read_text() == Path("resumed/seed-3/run.json").read_text()


def test_a_damaged_state_is_ignored_and_named(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = job("out")
    folder = Path("results/cache/.resume") / json.loads(text)["key"]
    folder.mkdir(parents=True)
    (folder / "state-0.pt").write_bytes(b"PK\x03\x04 nonsense")
    assert train("out", 0) == 0
    assert "damaged and ignored" in caplog.text


def test_no_damage_of_a_state_is_loaded(workdir: Path) -> None:
    """torch reads a file with a flipped bit as other weights, and any object that a file holds."""
    resume = Resume("key", "state", 1.0)
    state = {"step": 3, "model": {"weight": torch.randn(30, 30)}}
    resume.save(state)
    whole = resume.path.read_bytes()
    for position in np.linspace(0, len(whole) - 1, 80).astype(int):
        resume.path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        found = resume.load()
        assert found is None or (found["step"] == 3 and torch.equal(found["model"]["weight"], state["model"]["weight"]))
    for other in ([1], {"key": "key"}, {"step": 3}):
        torch.save(other, resume.path)
        assert resume.load() is None


def test_a_state_that_cannot_be_saved_is_not_said_to_be(workdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    resume = Resume("key", "state", 1.0)
    resume.path.parent.mkdir(parents=True)
    resume.path.mkdir()  # nothing can be put in its place
    resume.stopping = True
    with pytest.raises(SystemExit):
        resume.save({"step": 3})
    assert "step 3 cannot be saved" in caplog.text and "the state is saved" not in caplog.text


def test_divergence_is_named(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    wild = {"weight_decay": 1e30, "clip": None, "steps": 40, "warmup": 0.0}
    assert train("out", 5, **wild) == 2
    error = capsys.readouterr().err
    assert "error: mlp/x, seed 5: the loss is" in error and "Traceback" not in error
    assert not Path("out/seed-5").exists()
    assert train("out", 5, **wild, on_divergence="record") == 0
    assert json.loads(Path("out/seed-5/run.json").read_text())["diverged"] is True


def test_out_of_memory_halves_the_micro_batch(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight images never fit; four do once, so that the failed step leaves a gradient behind; two always do."""
    train("plain", 0, dropout=0.0)
    whole = training.Images.batch
    sizes: list[int] = []

    def small(self: Images, indices: torch.Tensor, *others: torch.Tensor | None):
        sizes.append(len(indices))
        if len(indices) > 4 or (len(indices) == 4 and sizes.count(4) == 2):
            raise torch.cuda.OutOfMemoryError("too large")
        return whole(self, indices, *others)

    monkeypatch.setattr(Images, "batch", small)
    assert train("small", 0, dropout=0.0) == 0
    assert sizes == [8, 4, 4] + [2] * 4 * RECIPE.steps
    assert "going on with 2 images at a time, 8 per step" in caplog.text
    plain, halved = (load_file(f"{out}/seed-0/model.safetensors") for out in ("plain", "small"))
    for name in plain:
        torch.testing.assert_close(plain[name], halved[name], rtol=1e-3, atol=1e-4)
    assert [json.loads(Path(f"{out}/seed-0/run.json").read_text())["micro_batch"] for out in ("plain", "small")] == [
        8,
        2,
    ]


def test_images_that_are_held_give_way_to_the_network(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a GPU whose memory the images of a set fill: they are read from then on, and every batch stays whole."""
    train("plain", 0)
    step, failed = training.Stepper._attempt, []

    def short(self: training.Stepper, *batch: torch.Tensor | None):
        if self.images.held is not None and (failed or self.rate < RECIPE.lr / 2):
            failed.append(True)
            raise torch.OutOfMemoryError("too large")
        return step(self, *batch)

    def let_go(self: Images) -> bool:
        held, self.held = self.held is not None, None
        return held

    monkeypatch.setattr(training.Stepper, "_attempt", short)
    monkeypatch.setattr(Images, "let_go", let_go)  # which does so on a GPU alone
    assert train("short", 0) == 0 and len(failed) == 1
    assert sha256("plain/seed-0/model.safetensors") == sha256("short/seed-0/model.safetensors")
    assert "images at a time" not in caplog.text


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_out_of_memory_inside_the_first_optimiser_step_leaves_nothing_behind(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """The first group of parameters is changed already, and of the second one moment has found room."""
    changes = {"dropout": 0.0, "steps": 5, "precision": precision, "clip": 1.0}
    whole, failed = torch.optim.AdamW._init_group, []

    def short(self, group, *others):
        made = whole(self, group, *others)
        if group["weight_decay"] == 0 and not failed:
            failed.append(True)
            for state in self.state.values():
                state.pop("exp_avg_sq")
            raise torch.OutOfMemoryError("no room for the moments")
        return made

    batch = Images.batch
    monkeypatch.setattr(torch.optim.AdamW, "_init_group", short)
    train("failing", 0, **changes)
    assert failed
    # The same in halves from the start.
    failed.clear()

    def halves(self, indices, *others):
        if len(indices) == 8:
            raise torch.OutOfMemoryError("too large")
        return batch(self, indices, *others)

    monkeypatch.setattr(torch.optim.AdamW, "_init_group", whole)
    monkeypatch.setattr(Images, "batch", halves)
    train("halved", 0, **changes)
    assert sha256("failing/seed-0/model.safetensors") == sha256("halved/seed-0/model.safetensors")


def test_parts_of_a_batch_through_batch_norm_are_refused_unless_allowed() -> None:
    norm = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    with pytest.raises(UserError, match="BatchNorm has other statistics: lower batch_size"):
        training._smaller(norm.train(), 8, recipe())
    assert training._smaller(norm.train(), 8, recipe(split_batch_norm=True)) == 4
    assert training._smaller(norm.eval(), 8, recipe()) == 4


def test_embedded_weights_fit_and_frozen_statistics_stay() -> None:
    model = models.create(network("tf_efficientnet_lite0"), 10, "embedded")
    assert models.normalisation(model) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    before = model.bn1.running_mean.clone()
    training._train_mode(model, freeze_norm=True)
    model(torch.randn(4, 3, 32, 32))
    assert torch.equal(before, model.bn1.running_mean)
    training._train_mode(model, freeze_norm=False)
    model(torch.randn(4, 3, 32, 32))
    assert not torch.equal(before, model.bn1.running_mean)


@pytest.mark.parametrize("architecture", ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_dropout_acts_in_the_blocks_and_only_in_training(architecture: str) -> None:
    side = 32
    torch.manual_seed(0)
    model = models.create(network(architecture, side), 10, None, 0.5, "blocks")
    head = models.create(network(architecture, side), 10, None, 0.5, "head")
    places = [models.dropout_places(each, network(architecture, side)) for each in (model, head)]
    assert len(places[0]) > len(places[1]) == 1
    images = torch.randn(2, 3, side, side)
    features = model.train().forward_features
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
                module.weight.fill_(1)  # residual branches start at 0, where dropout would not show
        assert not torch.equal(features(images), features(images))
        model.eval()
        assert torch.equal(features(images), features(images))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("missing.safetensors", "nor a file"),
        ("wrong.safetensors", "wrong.safetensors does not fit mlp_small in "),
        ("code.pth", "cannot be read as weights"),
    ],
)
def test_wrong_weights_are_named_and_nothing_runs(workdir: Path, weights: str, message: str) -> None:
    save_file({"fc1.weight": torch.zeros(3, 3)}, "wrong.safetensors")

    class Evil:
        def __reduce__(self) -> tuple:
            return os.system, ("touch executed",)

    torch.save({"fc1.weight": Evil()}, "code.pth")
    with pytest.raises(UserError, match=message):
        models.create(MLP, 10, weights)
    assert not Path("executed").exists()


def test_options_reach_the_architecture() -> None:
    small = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = models.create(network("vit_tiny_patch16_224", 28, 1, **small), 10)
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    assert model.patch_embed.num_patches == 49 and len(model.blocks) == 2 and model.embed_dim == 32
    assert models.create(network("mlp_small", 28, 1, width=8), 10).fc1.out_features == 8
    with pytest.raises(UserError, match="no_such"):
        models.create(network("mlp_small", 28, 1, no_such=8), 10)
    with pytest.raises(UserError, match="no_such"):
        models.create(network("vit_tiny_patch16_224", 28, 1, no_such=8), 10)


def test_unknown_architecture_is_named() -> None:
    with pytest.raises(UserError, match="timm has no model 'resnet999'"):
        models.create(network("resnet999"), 10)


def test_images_are_the_same_from_memory_and_from_the_map(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = imageset.load("train")
    seen = network("mlp_small", 32)
    arguments = (images.images, images.labels, seen, ((0.5,) * 3, (0.5,) * 3), torch.device("cpu"))
    held = Images(*arguments)
    monkeypatch.setattr("diversity_spectra.devices.HELD_ON_CPU", 0)
    mapped = Images(*arguments)
    assert mapped.held is None
    indices = torch.tensor([5, 3, 3, 39, 0])
    for one, other in zip(held.batch(indices), mapped.batch(indices), strict=True):
        assert torch.equal(one, other)
    # Read ahead by a thread, in the order of the file, the steps are the same.
    steps = [indices, torch.tensor([7, 2])]
    for (rows, pixels), expected in zip(mapped.ahead(iter(steps)), steps, strict=True):
        assert torch.equal(rows, expected) and pixels is not None
        assert torch.equal(mapped.batch(rows, None, pixels)[0], held.batch(rows)[0])
    batch, labels = held.batch(indices)
    assert batch.shape == (5, 3, 32, 32) and labels.tolist() == [1, 1, 1, 1, 0]
    assert math.isclose(batch[0, 0, 2 + 7, 2 + 9].item(), images.images[5, 7, 9, 0] / 127.5 - 1, abs_tol=1e-5)


def test_a_missing_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("out", 0) == 2
    assert "train: this input is missing" in capsys.readouterr().err


def test_a_corrupted_input_is_named(workdir: Path, capsys: pytest.CaptureFixture) -> None:
    digests, size = {"images.npy": sha256("train/images.npy")}, Path("train/images.npy").stat().st_size
    Path("train/spec.json").write_text(json.dumps({"outputs": digests, "sizes": {"images.npy": size}}))
    assert train("out", 0) == 0
    with Path("train/images.npy").open("r+b") as stream:
        stream.seek(5000)
        stream.write(b"\x00\x01\x02\x03")
    time.sleep(0.01)
    assert train("other", 0) == 2
    assert "train/images.npy is damaged" in capsys.readouterr().err


def test_pretraining_learns_orientations(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = imageset.load("train").images[:4]
    turns = QuarterTurns(images)
    turned = turns[np.arange(16)]
    assert turned.shape == (16, 28, 28, 1) and turns.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert np.array_equal(np.rot90(turned[4:8], -1, axes=(1, 2)), images)
    assert np.array_equal(turns[np.array([13, 2, 9, 9])], turned[[13, 2, 9, 9]])
    random = np.random.default_rng(0)
    marked = random.integers(0, 60, (40, 28, 28, 1), dtype=np.uint8)
    marked[:, :8] += 180  # a bright edge tells which side is up
    job = Pretrain(network=MLP, weights="pretrain", training=recipe(dropout=0.0, steps=60), images="pool")
    model, accuracy = pretrain(marked, job, torch.device("cpu"), Resume("pretrain", "state", 300))
    assert accuracy > 0.9 and model.get_classifier().out_features == 4
    monkeypatch.setattr(devices, "HELD_ON_CPU", 0)  # so that images are turned when they are read
    again, _ = pretrain(marked, job, torch.device("cpu"), Resume("pretrain", "again", 300))
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))


FROM_HUB = """
import sys
from diversity_spectra.cli import main
from diversity_spectra.jobs import canonical
settings = {"network": {"architecture": "test_resnet.r160_in1k", "image_size": 32}, "weights": sys.argv[1]}
job = {"settings": settings, "inputs": {}, "out": sys.argv[2]}
sys.exit(main(["finetune", "pretrained", "--job", canonical(job)]))
"""


def test_hub_weights_are_those_of_the_commit_and_the_commit_is_recorded(tmp_path: Path) -> None:
    """A local copy of a hub repository with two commits, the second of which is its newest."""
    repository = tmp_path / "cache" / "models--timm--test_resnet.r160_in1k"
    commits = ["1" * 40, "2" * 40]
    for number, commit in enumerate(commits):
        (repository / "snapshots" / commit).mkdir(parents=True)
        torch.manual_seed(number)
        weights = models.create(network("test_resnet"), 1000).state_dict()
        save_file(weights, repository / "snapshots" / commit / "model.safetensors")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commits[1])

    def prepare(weights: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", FROM_HUB, weights, str(tmp_path / weights)]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    for weights, commit in (("hub", commits[1]), (f"hub@{commits[0]}", commits[0])):
        done = prepare(weights)
        assert done.returncode == 0, done.stderr[-2000:]
        expected = load_file(repository / "snapshots" / commit / "model.safetensors")
        found = load_file(tmp_path / weights / "model.safetensors")
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert json.loads((tmp_path / weights / "spec.json").read_text())["commit"] == commit
    missing = prepare("hub@" + "3" * 40)
    assert missing.returncode == 2 and "Traceback" not in missing.stderr
    assert "`weights: none` or a file" in missing.stderr
    assert [line[:13] for line in missing.stderr.splitlines() if line.startswith("error")] == ["error: test_r"]


def test_a_grey_network_of_timm_sees_one_channel() -> None:
    grey = network("test_vit", 32, 1)
    model = models.create(grey, 3)
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 1), dtype=np.uint8)
    batches = Images(images, np.zeros(2, int), grey, models.normalisation(model), torch.device("cpu"))
    assert model(batches.batch(torch.arange(2))[0]).shape == (2, 3)


def test_dropout_leaves_stochastic_depth_where_it_is() -> None:
    deep = network("test_vit", 32, 3, drop_path_rate=0.2)

    def depths(model: torch.nn.Module) -> list[float]:
        return [module.drop_prob for module in model.modules() if type(module).__name__ == "DropPath"]

    assert depths(models.create(deep, 3, None, 0.3, "blocks")) == depths(models.create(deep, 3)) != []


def test_each_run_of_a_block_tells_its_own_peak_of_memory(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(devices, "choose", lambda *_: torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: done.append("reset"))
    monkeypatch.setattr(command, "_train_one", lambda job, images, seed, *_: done.append(seed))
    job = Finetune(network=MLP, training=recipe(), train="train", folder="two")
    command._train(job, argparse.Namespace(seeds=[0, 1], device="cuda", threads=1, jobs_per_gpu=1))
    assert done == ["reset", 0, "reset", 1]
