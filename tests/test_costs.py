"""What jobs cost: units of work, the rates that records of past jobs give, and what a plan is told to take.

Long because one tiny plan and its measured rates serve all of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from diversity_spectra import cli, execution
from diversity_spectra.augment.job import Augment, DataRecipe
from diversity_spectra.augment.recipe import mix
from diversity_spectra.config import read_yaml
from diversity_spectra.config.experiments import parse
from diversity_spectra.data.job import Digits, Prepare
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import canonical, read_record
from diversity_spectra.planning import bill, forecast, machine, rates, show
from diversity_spectra.planning.estimate import Estimate, estimates
from diversity_spectra.planning.rates import Key, Rate
from diversity_spectra.planning.steps import Step, Work
from diversity_spectra.stages import kinds
from diversity_spectra.work import Sets, npy_shape

TINY = read_yaml(ROOT / "tests/configs/tiny.yaml")
CPU = machine.cpu(1)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, so that nothing is there and results/ is this test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiny(**changes: object) -> Work:
    return Work(parse({**TINY, **changes}))


def sets_of(planned: list[Step]) -> Sets:
    return Sets({step.job.out: step.job for step in planned})


def finish(step: Step, seconds: float = 1.0, startup: float = 0.0, ago: float = 0.0, **facts: object) -> None:
    """Leave what the step's results would leave, each after so many seconds of work: files of a byte, and the record."""
    sets = Sets({step.job.out: step.job})
    for index, folder in enumerate(step.results):
        Path(folder).mkdir(parents=True, exist_ok=True)
        began = datetime.now(UTC) - timedelta(seconds=ago)
        times = {"started": began.isoformat(), "ended": (began + timedelta(seconds=seconds)).isoformat()}
        work = step.job.work(sets)
        record = {
            **step.job.spec, "sizes": dict.fromkeys(step.job.makes, 1), **times, "startup": 0.0 if index else startup,
            "work": {"kind": work.kind, "units": work.units}, **facts,
        }  # fmt: skip
        Path(folder, "spec.json").write_text(json.dumps(record))
        for name in step.job.makes:
            Path(folder, name).parent.mkdir(exist_ok=True)
            Path(folder, name).write_text("x")
    if step.job.place:
        shutil.copytree(step.job.out, step.job.place, dirs_exist_ok=True)
        step.job.mark.parent.mkdir(parents=True, exist_ok=True)
        step.job.mark.touch()


# ---------------------------------------------------------------- units of work


def test_units_of_every_job_of_tiny() -> None:
    planned = tiny().steps
    sets = sets_of(planned)
    units: dict[str, list[tuple[str, float]]] = {}
    for step in planned:
        units.setdefault(step.job.kind, []).append((step.job.name, step.job.work(sets, len(step.results)).units))
    test_images = 100 + 1797 + 100
    runs = {"lite0/baseline": 2, "lite0/dropout-0.2": 1, "mlp/baseline": 4}
    steps_and_batch = {"lite0": 4 * 8, "mlp": 60 * 20}
    assert units["data"] == [
        ("digits-train", 120), ("digits-test", 100), ("digits-pool", 120), ("ood-uci_digits", 1797),
        ("test-gaussian_blur-3", 100),
    ]  # fmt: skip
    assert units["generator"] == [("ddpm", 12 * 16)]
    assert units["shard"] == [("ddpm-0", 60 * 2 * 2), ("ddpm-1", 60 * 2 * 2)]  # 2 steps, with the class and without
    assert units["generate"] == [("ddpm", 120)]
    assert units["augment"] == [("rotation-20", 120 * 2), ("synthetic-0.5", 180)]
    assert dict(units["diversity"]) == {
        "plain": 10 * 8 * 2, "rotation-20": 160, "synthetic-0.5": 160, "synthetic": 120,
    }  # fmt: skip
    assert units["pretrained"] == [("lite0", 1)]
    assert len(units["finetune"]) == len(units["evaluate"]) == len(units["spectra"]) == 10
    for name, images in units["finetune"]:
        longer = 0.2 if name == "mlp/steps-0.2x" else 1
        assert images == longer * steps_and_batch[name.split("/")[0]] * runs.get(name, 2), name
    for name, images in units["evaluate"]:
        synthetic = 120 if name.endswith("baseline") else 0
        assert images == (test_images + synthetic) * runs.get(name, 2), name
    assert units["spectra"] == [(name, runs.get(name, 2)) for name, _ in units["finetune"]]
    assert (
        units["gather"] == [("runs-0", 21)] and units["compare"] == [("tiny", 21)] and units["report"] == [("tiny", 10)]
    )
    assert {*units, "sweep", "choose"} == set(kinds())


def test_kinds_hold_what_makes_a_unit_dearer() -> None:
    def told(made: Work) -> dict[str, set[str]]:
        sets = sets_of(made.steps)
        found: dict[str, set[str]] = {}
        for step in made.steps:
            found.setdefault(step.job.kind, set()).add(step.job.work(sets).kind)
        return found

    usual = told(tiny())
    assert usual["finetune"] == {
        "tf_efficientnet_lite0 at 32 px, float32, 8 a step",
        "mlp_small at 28 px, float32, 20 a step",
    }
    assert "tf_efficientnet_lite0, W and dW, strict, 0 draws" in usual["spectra"]
    wider = told(tiny(generator={**TINY["generator"], "channels": [16, 32]}))
    assert {stage for stage in usual if usual[stage] != wider[stage]} == {"generator", "shard"}
    drawn = told(tiny(spectra={"bootstrap": 10}))
    assert {stage for stage in usual if usual[stage] != drawn[stage]} == {"spectra"}


def test_the_preset_of_the_study() -> None:
    planned = Work(parse(read_yaml(ROOT / "workflow/presets/cifar10-clip-vit-b32.yaml"))).steps
    sets = sets_of(planned)
    total: dict[str, float] = {}
    for step in planned:
        total[step.job.kind] = total.get(step.job.kind, 0) + step.job.work(sets, len(step.results)).units
    assert total["shard"] == 50_000 * 25 * 2
    assert total["finetune"] == (33 * 5 + 10) * 977 * 512
    assert total["evaluate"] == 175 * 11 * 10_000 + 10 * 50_000
    augmented = next(step for step in planned if step.job.name == "rotation-10")
    assert augmented.job.work(sets).size == 500_000 * (32 * 32 * 3 + 8)
    on_gpu = {step.job.kind for step in planned if step.job.takes_device()}
    assert on_gpu == {"shard", "diversity", "finetune", "evaluate"}


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (2, 2), (7,)])
def test_shapes_are_read_as_numpy_wrote_them(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with (tmp_path / "b.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.zeros(shape), version=(2, 0))
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01")
    assert npy_shape(tmp_path / "a.npy") == npy_shape(tmp_path / "b.npy") == shape
    assert npy_shape(tmp_path / "c.npy") is None and npy_shape(tmp_path / "none.npy") is None


@pytest.mark.parametrize(("mode", "images"), [("added", 10 * (12 + 7)), ("replaced", 10 * 12)])
def test_synthetic_images_are_counted_as_they_are_mixed(mode: str, images: int) -> None:
    """0.55 of 12 images of a class are 7, though of all 120 they are 66."""
    labels = np.repeat(np.arange(10), 12)
    assert len(mix(labels, labels, 0.55, mode, 0, [str(label) for label in range(10)])) == images
    real = Prepare(source=Digits(kind="digits", train_per_class=12), split="train")
    job = Augment(recipe=DataRecipe(synthetic=0.55, mode=mode), images=real.out)
    assert job.shape(Sets({real.out: real})) == (images, 28, 28, 1)


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize(
    "limits", [{}, {"train_per_class": 3, "pool_per_class": 1, "test_per_class": 2, "validation_fraction": 0.4}]
)
def test_planned_sizes_of_image_folders_are_those_made(separate: bool, limits: dict, tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part in ("train", "test") if separate else ("",):
        for name, images in (("cat", 9), ("dog", 12)):
            (root / part / name / "deep").mkdir(parents=True)
            for index in range(images):
                pixels = np.full((10, 12, 3), index * 9, np.uint8)
                pixels[0, 0] = len(part), len(name) + (name == "dog"), index  # no picture is there twice
                Image.fromarray(pixels).save(root / part / name / ("deep" if index % 2 else "") / f"{index}.png")
    data = {"kind": "image_folder", "path": str(root), "image_size": 8, **limits}
    made = Work(parse({"experiment": "own", "data": data, "models": [_mlp()], "diversity": {"per_class": 2}}))
    jobs = made.of_kind("data")
    planned = Sets({job.out: job for job in jobs})
    # What a desktop leaves in a folder, and what is hidden, is no image: neither of the set nor of the estimate.
    for name in (".DS_Store", ".hidden/a.png", "Thumbs.db"):
        place = root / ("train/cat" if separate else "cat") / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"no image")
    for job in jobs:
        shape, classes = planned.shape(job.out), planned.classes(job.out)
        assert cli.main(["data", "--job", canonical(job.spec)]) == 0
        assert (npy_shape(Path(job.out, "images.npy")), Sets().classes(job.out)) == (shape, classes)


def _mlp() -> dict:
    return {"name": "mlp", "architecture": "mlp_small", "image_size": 8, "steps": 5, "lr": 1e-3}


# ---------------------------------------------------------------- records


def test_a_record_holds_what_its_job_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_results", 0)  # this process has made none yet
    job = next(job for job in tiny().of_kind("data") if job.name == "digits-test")
    assert cli.main(["data", "--job", canonical(job.spec)]) == 0
    record = read_record(job.out)
    assert datetime.fromisoformat(record["started"]) < datetime.fromisoformat(record["ended"])
    assert record["startup"] > 0 and record["work"] == {"kind": "digits at 28 px", "units": 100}
    assert record["sizes"] == {name: Path(job.out, name).stat().st_size for name in record["outputs"]}
    [(key, rate)] = rates.measured().items()
    assert key == Key("data", "digits at 28 px", CPU)
    assert 0 < rate.seconds < 1 and rate.units == 100 and rate.bytes == sum(record["sizes"].values()) / 100


def test_a_resumed_training_and_an_unreadable_record_are_no_measure() -> None:
    (step,) = [step for step in tiny().steps if step.job.name == "mlp/baseline" and step.job.kind == "finetune"]
    finish(step, resumed=True)
    assert rates.measured() == {}
    finish(step, seconds=2.0, startup=3.0)
    Path(step.results[0], "spec.json").write_text("{")
    [rate] = rates.measured().values()
    assert rate.seconds * 60 * 20 == pytest.approx(2.0) and rate.start == 0.0


def test_start_up_is_told_apart() -> None:
    (step,) = [step for step in tiny().steps if step.job.name == "mlp/baseline" and step.job.kind == "finetune"]
    finish(step, seconds=2.0, startup=3.0)
    [rate] = rates.measured().values()
    assert rate.predict(4 * 60 * 20) == pytest.approx(3.0 + 4 * 2.0)
    assert rate.predict(8 * 60 * 20) == pytest.approx(3.0 + 8 * 2.0)


def test_the_latest_results_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "REMEMBERED", 2)
    runs = [step for step in tiny().steps if step.job.kind == "finetune" and step.job.name.startswith("mlp/dropout-0")]
    finish(runs[0], 50.0, ago=3600.0)
    finish(runs[1], 1.0)
    rate = rates.measured()[Key("finetune", "mlp_small at 28 px, float32, 20 a step", CPU)]
    assert rate.seconds == pytest.approx(1.0 / 1200)


# ---------------------------------------------------------------- estimating


def measured_by(law: dict[str, tuple[float, float]], planned: list[Step]) -> rates.Rates:
    """Rates as a run leaves them whose jobs took start + rate x units; `law` by stage, or for all as `*`."""
    sets, found = sets_of(planned), {}
    for step in planned:
        start, rate = law.get(step.job.kind, law["*"])
        units = step.job.work(sets, len(step.results)).units
        found[Key(step.job.kind, step.job.work(sets).kind, CPU)] = Rate(start, rate, 1000 / units, units)
    return found


def _estimates(planned: list[Step], known: rates.Rates) -> list[Estimate]:
    return estimates(planned, known, None, 1)


def test_a_run_is_estimated_at_the_time_it_took() -> None:
    planned = tiny().steps
    law = {"*": (1.0, 1e-3), "finetune": (4.0, 2e-4), "spectra": (1.0, 0.3), "data": (1.5, 1e-5)}
    known = measured_by(law, planned)
    for cost in _estimates(planned, known):
        start, rate = law.get(cost.step.job.kind, law["*"])
        assert cost.seconds == (pytest.approx(start + rate * cost.work.units) if cost.step.open else 0)
    # Eight times the steps: the start-up is not taken eight times.
    longer = [dict(model, steps=8 * model["steps"]) for model in TINY["models"]]
    more = [cost for cost in _estimates(tiny(models=longer).steps, known) if cost.step.job.kind == "finetune"]
    images = 8 * (3 * 4 * 8 + 16 * 60 * 20 + 2 * 12 * 20)
    assert sum(cost.work.units for cost in more) == images
    assert sum(cost.seconds for cost in more) == pytest.approx(10 * 4.0 + 2e-4 * images)


def test_only_what_is_to_do_is_counted() -> None:
    known = measured_by({"*": (0.0, 1e-2)}, tiny().steps)
    for step in tiny().steps:
        if step.job.kind == "finetune":
            finish(step)
    after = tiny().steps
    # The pool feeds nothing here. What only the finished trainings read need not be made again.
    done = {step.job.kind for step in after if not step.open}
    assert {"finetune", "pretrained"} - done == {"pretrained"}  # the spectra still read it
    assert [step.job.name for step in after if step.job.kind == "data" and not step.open] == ["digits-pool"]
    seconds = {cost.step.job.kind: cost.seconds for cost in _estimates(after, known)}
    assert seconds["finetune"] == 0 and seconds["spectra"] > 0
    for step in after:
        if step.job.kind in ("evaluate", "spectra", "gather", "diversity", "compare", "report"):
            finish(step)
    assert not tiny().to_do
    assert bill.bill(tiny(), known)[-1] == "nothing to do: every result is there"
    changed = tiny(compare={"bootstrap": 60, "permutations": 50}).to_do
    assert [step.job.kind for step in changed] == ["compare", "report"]


def test_a_result_lies_where_people_read_it_and_comes_back_from_there() -> None:
    """Deleted in its place it is laid there again; deleted in the cache it is missed by nobody but by what reads it."""
    for step in tiny().steps:
        finish(step)
    assert not tiny().to_do
    compare, report = (tiny().of_kind(kind)[0] for kind in ("compare", "report"))
    Path(compare.place, "spec.json").unlink()
    (step,) = tiny().to_do
    assert (step.job, step.needs) == (compare, ())
    finish(step)
    for job in (compare, report):
        Path(job.out, "spec.json").unlink()
    assert not tiny().to_do
    # Another colour: the tables are brought back from their place for the report, and nothing else is made.
    told = [(step.job.kind, [need.job.kind for need in step.needs]) for step in tiny(report={"palette": "deep"}).to_do]
    assert told == [("compare", []), ("report", ["compare"])]


def test_deleted_weights_are_missed_by_nothing_that_reads_no_weights() -> None:
    """A new condition makes its own runs: the tables read what the others left beside their weights."""
    made = tiny().steps
    for step in made:
        finish(step)
    for step in made:
        for folder in step.results if step.job.kind == "finetune" else ():
            Path(folder, "model.safetensors").unlink()
    models = [TINY["models"][0], json.loads(json.dumps(TINY["models"][1]))]
    models[1]["conditions"]["dropout"]["rates"].append(0.1)
    trained = [step.job.name for step in tiny(models=models).to_do if step.job.kind == "finetune"]
    assert trained == ["mlp/dropout-0.1"]


def test_a_block_that_grew_counts_its_new_seeds() -> None:
    for step in tiny().steps:
        if step.job.name == "mlp/baseline":
            finish(step)
    models = [TINY["models"][0], {**TINY["models"][1], "baseline_runs": 6, "seeds_per_job": 6}]
    grown = [step for step in tiny(models=models).steps if step.job.name == "mlp/baseline"]
    assert {step.job.kind: (len(step.results), len(step.open)) for step in grown} == {
        "finetune": (6, 2), "evaluate": (6, 2), "spectra": (6, 2),
    }  # fmt: skip
    assert grown[0].target.endswith("seed-5/spec.json")


def test_what_was_never_run_is_said_to_be_unknown() -> None:
    planned = tiny().steps
    known = {key: rate for key, rate in measured_by({"*": (0.0, 1e-2)}, planned).items() if "lite0" not in key.kind}
    table = bill.bill(tiny(), known)
    finetune = next(line for line in table if line.startswith("finetune"))
    assert "197 s" in finetune or "3.3 min" in finetune
    assert "+ unknown: no run of tf_efficientnet_lite0 at 32 px, float32, 8 a step yet" in finetune
    assert any(line.startswith("wall time: unknown") for line in table)
    assert "unknown" not in next(line for line in table if line.startswith("augment"))


@pytest.mark.parametrize("config", ["config.yaml", "tests/configs/tiny.yaml"])
def test_a_fresh_clone_has_rates_and_says_whose_they_are(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(bill, "processors", lambda: 3)  # of a container, say
    plan = ["plan", "--on", "cpu", "--configfile", str(ROOT / config)]
    assert cli.main(plan) == 0
    told = capsys.readouterr().out
    assert "unknown" not in told and "\nwall time here (3 cores)" in told
    jobs = len([step for step in Work(parse(read_yaml(ROOT / config))).steps if step.open])
    assert f"\nof {jobs} jobs the time is by the rates shipped with the package, of another machine" in told


def test_what_was_measured_here_goes_before_what_is_shipped() -> None:
    kind = "mlp_small at 28 px, float32, 20 a step"
    (step,) = [step for step in tiny().steps if step.job.name == "mlp/baseline" and step.job.kind == "finetune"]
    assert rates.known()[Key("finetune", kind, CPU)].shipped
    finish(step, seconds=12.0)
    (own,) = [rate for rate in rates.known().values() if not rate.shipped]
    assert rates.known()[Key("finetune", kind, CPU)] == own and own.seconds * 1200 == pytest.approx(12.0)
    slow = next(task for task in forecast.tasks(tiny().steps) if task.name.startswith("finetune mlp/dropout-0.3,"))
    assert slow.seconds == pytest.approx(2 * 12.0)
    costs = [cost for cost in _estimates(tiny().steps, rates.known()) if cost.step.open]
    assert {cost.work.kind for cost in costs if not cost.shipped} == {kind}


def test_rates_of_a_gpu_are_not_those_of_the_cpu() -> None:
    planned = tiny().steps
    known = measured_by({"*": (0.0, 1e-2)}, planned)
    costs = {cost.step.job.kind: cost for cost in estimates(planned, known, "NVIDIA A100", 1)}
    assert costs["finetune"].seconds is None and costs["finetune"].on_gpu
    assert costs["finetune"].bytes > 0  # a network is as large whatever trained it
    assert costs["spectra"].seconds > 0 and not costs["spectra"].on_gpu


def test_what_a_cluster_would_end_is_warned_of() -> None:
    assert [bill.minutes(kind) for kind in ("augment", "finetune", "evaluate", "gather")] == [240, 240, 80, 60]
    profile = (ROOT / "workflow/profiles/slurm/profile.yaml").read_text()
    assert f"runtime={bill.DEFAULT_MINUTES}*attempt" in profile
    steps = [step for step in tiny().steps if step.job.kind in ("evaluate", "gather")]
    slow = [Estimate(step, CPU, False, None, 4000.0, 0.0) for step in steps]
    (line,) = bill.too_long(slow)
    assert line.startswith(
        "WARNING: jobs of gather (1) take longer than a cluster gives them at first, runs-0 67 min of 60"
    )
    assert line.endswith("set-resources: [gather:runtime=100]")


def test_a_full_disk_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bill, "room", lambda: 1000)
    assert "WARNING: disk: at least 2.2 MB needed, 1 kB free" in bill.bill(tiny(), {})
    assert bill.disk(310e9, 120e9, False) == "WARNING: disk: 310 GB needed, 120 GB free"
    assert bill.disk(1e9, 120e9, False) == "disk: 1 GB needed, 120 GB free"


def test_the_device_estimated_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {CPU, "NVIDIA A100", "NVIDIA H200"}
    assert bill.choose_gpu(None, "auto", [], known) is None
    assert bill.choose_gpu(None, "cpu", ["NVIDIA L4"], known) is None
    assert bill.choose_gpu(None, "auto", ["NVIDIA L4"], known) == "NVIDIA L4"
    assert bill.choose_gpu(None, "cuda", [], known) == "NVIDIA A100"
    assert bill.choose_gpu("h200", "auto", [], known) == "NVIDIA H200"
    assert bill.choose_gpu("cpu", "cuda", ["NVIDIA L4"], known) is None
    with pytest.raises(UserError, match="known: cpu, NVIDIA A100, NVIDIA H200"):
        bill.choose_gpu("v100", "auto", [], known)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA L4'\necho 'NVIDIA L4'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.gpus() == ["NVIDIA L4", "NVIDIA L4"]
    tool.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert machine.gpus() == []


def test_the_command_shows_table_and_scaling(capsys: pytest.CaptureFixture) -> None:
    known: dict[str, dict] = {}
    for key, rate in measured_by({"*": (0.0, 1e-2)}, tiny().steps).items():
        known.setdefault(key.stage, {}).setdefault(key.kind, {})[key.device] = rate.__dict__
    Path("rates.json").write_text(json.dumps(known))
    config = str(ROOT / "tests/configs/tiny.yaml")
    own = ["--on", "cpu", "--rates", "rates.json"]
    assert cli.main(["plan", "--configfile", config, *own, "--devices", "1,2,4,1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("wall time on N")) + 3
    rows = {int(line.split()[0]): line.split() for line in lines[start : start + 4]}
    assert list(rows) == [1, 2, 4, 1000]
    assert rows[1][-2:] == ["1.0", "100%"]
    speed_up = [float(row[-2]) for row in rows.values()]
    assert speed_up == sorted(speed_up) and 1 < speed_up[1] <= 2 and speed_up[-1] < 46
    assert any(line.startswith("the longest chain takes") for line in lines)
    assert lines[-1].split()[-2:] == ["report", "tiny"]
    with pytest.raises(SystemExit):
        cli.main(["plan", "--configfile", config, "--devices", "0"])


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"finetune": 1}', '{"finetune": {"mlp": {"cpu": {"price": 1}}}}'])
def test_a_damaged_file_of_rates_is_named(text: str, capsys: pytest.CaptureFixture) -> None:
    Path("rates.json").write_text(text)
    config = str(ROOT / "tests/configs/tiny.yaml")
    assert cli.main(["plan", "--configfile", config, "--rates", "rates.json"]) == 2
    assert "error: --rates rates.json: not a file of rates" in capsys.readouterr().err


def test_the_examples_of_the_help_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    for line in show.EPILOG.splitlines()[1:]:
        assert cli.main(line.split()[1:]) == 0, line
    assert cli.main(["plan", "--on", "no-such-gpu"]) == 2
    assert "known: cpu" in capsys.readouterr().err


def test_the_documented_table_is_the_one_computed(capsys: pytest.CaptureFixture) -> None:
    told = (ROOT / "docs/scale.md").read_text()
    command = re.search(r"`diversity-spectra (plan [^`]*)`", told, re.DOTALL)[1].split()
    places = {part: str(ROOT / part) for part in command if "/" in part}
    assert cli.main([places.get(part, part) for part in command]) == 0
    lines = capsys.readouterr().out.splitlines()
    steps = Work(parse(read_yaml(places["workflow/presets/cifar10-clip-vit-b32.yaml"]))).steps
    assert f"There are {sum(step.job.takes_device() for step in steps)} jobs for GPUs" in told
    start, stop = (next(i for i, line in enumerate(lines) if line.startswith(word)) for word in ("stage ", "total "))
    wall = next(i for i, line in enumerate(lines) if line.startswith("wall time on N"))
    for computed in ("\n".join(lines[start : stop + 1]), "\n".join(lines[wall:])):
        assert computed in told, f"docs/scale.md is out of date; this is what it should show:\n{computed}"
