"""What jobs cost: units of work, the rates that past runs leave behind, and what a plan is told to take.

Long because one tiny plan and its measured rates serve all of it.
"""

from __future__ import annotations

import json
import logging
import os
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from diversity_spectra import cli
from diversity_spectra.config import read_yaml
from diversity_spectra.costs import calibration, ledger, machine
from diversity_spectra.costs.calibration import Entry, Key
from diversity_spectra.costs.ledger import Result, measured
from diversity_spectra.costs.sizes import Sets, npy_shape
from diversity_spectra.costs.work import takes_device, work
from diversity_spectra.errors import UserError
from diversity_spectra.planning import bill
from diversity_spectra.planning.estimate import estimates
from diversity_spectra.planning.experiments import parse
from diversity_spectra.planning.graph import Step, steps
from diversity_spectra.planning.plan import FILES
from diversity_spectra.planning.union import Union, plan_all

TINY = read_yaml(ROOT / "tests/configs/tiny.yaml")
CPU = machine.cpu(1)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, so that nothing is there and results/calibration.json is this test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tiny(**changes: object) -> Union:
    return plan_all(parse({**TINY, **changes}))


def sets_of(planned: list[Step]) -> Sets:
    return Sets({step.job.out: step.job.spec for step in planned})


def finish(step: Step) -> None:
    """Leave the records that the step's results would leave."""
    for folder in step.results:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, "spec.json").write_text(json.dumps({**step.job.spec, "outputs": {}}))


# ---------------------------------------------------------------- units of work


def test_units_of_every_job_of_tiny() -> None:
    planned = steps(tiny())
    sets = sets_of(planned)
    units: dict[str, list[tuple[str, float]]] = {}
    for step in planned:
        done = work(step.job.spec, len(step.results), sets)
        units.setdefault(step.job.stage, []).append((step.job.name, done.units))
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
    assert len(units["finetune"]) == len(units["evaluate"]) == len(units["spectra"]) == 9
    for name, images in units["finetune"]:
        assert images == steps_and_batch[name.split("/")[0]] * runs.get(name, 2), name
    for name, images in units["evaluate"]:
        synthetic = 120 if name.endswith("baseline") else 0
        assert images == (test_images + synthetic) * runs.get(name, 2), name
    assert units["spectra"] == [(name, runs.get(name, 2)) for name, _ in units["finetune"]]
    assert (
        units["gather"] == [("runs-0", 19)] and units["compare"] == [("tiny", 19)] and units["report"] == [("tiny", 9)]
    )
    assert {*units, "sweep"} == {*FILES, "compare", "report", "sweep"} == set(bill.STAGES)


def test_kinds_hold_what_makes_a_unit_dearer() -> None:
    def kinds(made: Union) -> dict[str, set[str]]:
        planned = steps(made)
        found: dict[str, set[str]] = {}
        for step in planned:
            found.setdefault(step.job.stage, set()).add(work(step.job.spec, 1, sets_of(planned)).kind)
        return found

    usual = kinds(tiny())
    assert usual["finetune"] == {
        "tf_efficientnet_lite0 at 32 px, float32, 8 a step",
        "mlp_small at 28 px, float32, 20 a step",
    }
    assert "tf_efficientnet_lite0, W and dW, strict, 0 draws" in usual["spectra"]
    wider = kinds(tiny(generator={**TINY["generator"], "channels": [16, 32]}))
    assert {stage for stage in usual if usual[stage] != wider[stage]} == {"generator", "shard"}
    drawn = kinds(tiny(spectra={"bootstrap": 10}))
    assert {stage for stage in usual if usual[stage] != drawn[stage]} == {"spectra"}


def test_the_preset_of_the_study() -> None:
    planned = steps(plan_all(parse(read_yaml(ROOT / "workflow/presets/cifar10-clip-vit-b32.yaml"))))
    sets = sets_of(planned)
    total: dict[str, float] = {}
    for step in planned:
        total[step.job.stage] = total.get(step.job.stage, 0) + work(step.job.spec, len(step.results), sets).units
    assert total["shard"] == 50_000 * 25 * 2
    assert total["finetune"] == (28 * 5 + 10) * 977 * 512
    assert total["evaluate"] == 150 * 11 * 10_000 + 10 * 50_000
    augmented = next(step for step in planned if step.job.name == "rotation-10")
    assert work(augmented.job.spec, 1, sets).size == 500_000 * (32 * 32 * 3 + 8)
    on_gpu = {step.job.stage for step in planned if takes_device(step.job.spec)}
    assert on_gpu == {"shard", "diversity", "finetune", "evaluate"}


@pytest.mark.parametrize("shape", [(3, 4, 5, 3), (2, 2), (7,)])
def test_shapes_are_read_as_numpy_wrote_them(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with (tmp_path / "b.npy").open("wb") as stream:
        np.lib.format.write_array(stream, np.zeros(shape), version=(2, 0))
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01")
    assert npy_shape(tmp_path / "a.npy") == npy_shape(tmp_path / "b.npy") == shape
    assert npy_shape(tmp_path / "c.npy") is None and npy_shape(tmp_path / "none.npy") is None


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("limits", [{}, {"train_per_class": 3, "pool_per_class": 1, "test_per_class": 2}])
def test_planned_sizes_of_image_folders_are_those_made(separate: bool, limits: dict, tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part in ("train", "test") if separate else ("",):
        for name, images in (("cat", 9), ("dog", 12)):
            (root / part / name / "deep").mkdir(parents=True)
            for index in range(images):
                image = Image.fromarray(np.full((10, 12, 3), index * 9, np.uint8))
                image.save(root / part / name / ("deep" if index % 2 else "") / f"{index}.png")
    data = {"kind": "image_folder", "path": str(root), "image_size": 8, **limits}
    made = plan_all(parse({"experiment": "own", "data": data, "models": [_mlp()], "diversity": {"per_class": 2}}))
    jobs = made.jobs["data"].values()
    planned = Sets({job.out: job.spec for job in jobs})
    for job in jobs:
        shape, classes = planned.shape(job.out), planned.classes(job.out)
        assert cli.main(["data", "--job", job.text]) == 0
        assert (npy_shape(Path(job.out, "images.npy")), Sets().classes(job.out)) == (shape, classes)


def _mlp() -> dict:
    return {"name": "mlp", "architecture": "mlp_small", "image_size": 8, "steps": 5, "lr": 1e-3}


# ---------------------------------------------------------------- recording


def test_start_up_is_told_apart_by_the_results_of_one_process() -> None:
    entry = measured([Result(3.0, 10), Result(1.0, 10), Result(1.0, 10)], 600)
    assert (entry.rate, entry.start) == (1 / 200, 2.0)
    assert entry.predict(600) == pytest.approx(5.0) and entry.predict(6000) == pytest.approx(32.0)
    # One result tells nothing apart; whatever was measured, the same jobs are estimated at the time they took.
    single = measured([Result(3.0, 10)], 200)
    assert single.start == 0 and single.predict(200) == 3.0
    slow = measured([Result(1.0, 0), Result(2.0, 0)], 2)
    assert slow.start == 0 and slow.predict(2) == pytest.approx(3.0)


def test_a_resumed_training_is_not_timed() -> None:
    entry = measured([Result(0.1, 10, whole=False), Result(1.0, 10), Result(1.2, 10)], 200)
    assert (entry.jobs, entry.results, entry.seconds) == (0, 2, 2.2)
    assert entry.rate == pytest.approx(0.011) and entry.start == 0


def test_a_job_notes_its_time_and_room(tmp_path: Path) -> None:
    job = next(job for job in tiny().jobs["data"].values() if job.name == "digits-test")
    assert cli.main(["data", "--job", job.text]) == 0
    [(key, entry)] = calibration.read().items()
    assert key == Key("data", "digits at 28 px", CPU)
    assert (entry.jobs, entry.units, entry.results) == (1, 100, 1) and 0.05 < entry.seconds < 60
    made = sum(path.stat().st_size for path in Path(job.out).iterdir() if path.name != "spec.json")
    assert entry.bytes == made
    broken = job.text.replace('"split":"test"', '"split":"no such split"')
    with pytest.raises(ValueError):
        cli.main(["data", "--job", broken])
    assert calibration.read()[key] == entry


def test_a_saved_state_marks_what_is_resumed(tmp_path: Path) -> None:
    Path("results/cache/.resume/k").mkdir(parents=True)
    Path("results/cache/.resume/k/state-1.pt").touch()
    ledger.begin()
    ledger.open_job({"stage": "finetune", "key": "k"})
    for seed in (0, 1, 2):
        ledger.result(tmp_path, seed)
    assert [result.whole for result in ledger._ledger.results] == [True, False, True]


def test_waiting_for_a_gpu_is_no_work() -> None:
    ledger.begin()
    ledger._ledger.since -= 1000
    ledger.open_job({"stage": "finetune", "key": "k"})
    source = ROOT / "workflow/diversity_spectra/devices.py"
    assert 'log.info("working on %s"' in source.read_text()
    logger = logging.getLogger("diversity_spectra")
    logger.handle(
        logging.LogRecord("diversity_spectra", logging.INFO, str(source), 1, "working on %s", ("GPU",), None, "choose")
    )
    ledger.result(Path("none"), 0)
    assert ledger._ledger.results[0].seconds < 60


def test_a_calibration_that_cannot_be_written_fails_no_job(caplog: pytest.LogCaptureFixture) -> None:
    job = next(job for job in tiny().jobs["data"].values() if job.name == "digits-test")
    calibration.PATH.with_suffix(".lock").mkdir(parents=True)
    assert cli.main(["data", "--job", job.text]) == 0
    assert "the time of this job cannot be noted" in caplog.text
    assert not calibration.PATH.exists()


def _record_many(path: str, device: str) -> None:
    for _ in range(10):
        calibration.record(Key("finetune", "mlp", device), Entry(1, 2.5, 100, results=1, bytes=7), Path(path))


def test_processes_that_end_together_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results/calibration.json"
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_record_many, [str(path)] * 8, ["a", "b"] * 4))
    rates = calibration.read(path)
    assert rates == {Key("finetune", "mlp", device): Entry(40, 100, 4000, results=40, bytes=280) for device in "ab"}


def test_earlier_jobs_fade(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"finetune": {"mlp": {CPU: {"jobs": 100, "seconds": 1000, "units": 100}}}}))
    key = Key("finetune", "mlp", CPU)
    for _ in range(60):
        calibration.record(key, Entry(1, 1, 1), path)
    entry = calibration.read(path)[key]
    assert entry.jobs < 120
    assert 1 < entry.rate < 6  # the mean over all 160 jobs would be 6.6


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", '{"finetune": 1}', '{"finetune": {"mlp": {"cpu": {"jobs": "many"}}}}',
     '{"finetune": {"mlp": {"cpu": {"jobs": NaN, "seconds": 1, "units": 1}}}}',
     '{"finetune": {"mlp": {"cpu": {"jobs": 1, "seconds": 1}}}}', '{"finetune": {"mlp": {"cpu": {"price": 1}}}}'],
)  # fmt: skip
def test_a_damaged_file_is_named_and_set_aside(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    key = Key("finetune", "mlp", CPU)
    calibration.record(key, Entry(1, 1, 1), path)
    assert f"{path} is damaged" in caplog.text
    assert path.with_suffix(".damaged").read_text() == text
    assert calibration.read(path) == {key: Entry(1, 1, 1)}


# ---------------------------------------------------------------- estimating


def measured_by(law: dict[str, tuple[float, float]], planned: list[Step]) -> dict[Key, Entry]:
    """Rates as a run leaves them whose jobs took start + rate x units; `law` by stage, or for all as `*`."""
    sets = sets_of(planned)
    for step in planned:
        done = work(step.job.spec, len(step.results), sets)
        start, rate = law.get(step.job.stage, law["*"])
        share = rate * done.units / len(step.results)
        results = [Result(share + (start if index == 0 else 0), 1000) for index in range(len(step.results))]
        calibration.record(Key(step.job.stage, done.kind, CPU), measured(results, done.units))
    return calibration.read()


def test_a_run_is_estimated_at_the_time_it_took() -> None:
    planned = steps(tiny())
    law = {"*": (1.0, 1e-3), "finetune": (4.0, 2e-4), "spectra": (1.0, 0.3), "data": (1.5, 1e-5)}
    rates = measured_by(law, planned)
    took = {stage: 0.0 for stage in bill.STAGES}
    for step in planned:
        start, rate = law.get(step.job.stage, law["*"])
        took[step.job.stage] += start + rate * work(step.job.spec, len(step.results), sets_of(planned)).units
    for stage, seconds in took.items():
        mine = [step for step in planned if step.job.stage == stage]
        told = sum(estimate.seconds for estimate in _estimates(planned, rates) if estimate.stage == stage)
        assert len(mine) == 0 or seconds / 1.5 < told < seconds * 1.5, stage
    # Eight times the steps: the start-up is not taken eight times.
    longer = [dict(model, steps=8 * model["steps"]) for model in TINY["models"]]
    more = [e for e in _estimates(steps(tiny(models=longer)), rates) if e.stage == "finetune"]
    images = 8 * (3 * 4 * 8 + 16 * 60 * 20)
    assert sum(estimate.work.units for estimate in more) == images
    assert sum(estimate.seconds for estimate in more) == pytest.approx(9 * 4.0 + 2e-4 * images, rel=0.25)


def test_much_larger_jobs_than_ever_run_are_given_an_upper_bound() -> None:
    rates = measured_by({"*": (5.0, 1e-3)}, steps(tiny()))
    generator = {**TINY["generator"], "train_steps": 1200}
    line = next(line for line in bill.bill(tiny(generator=generator), rates) if line.startswith("generator"))
    assert "at most 8.7 min" in line  # in truth 5 s + 19 s: one small job cannot tell start-up and work apart
    assert "at most" not in next(line for line in bill.bill(tiny(), rates) if line.startswith("generator"))


def _estimates(planned: list[Step], rates: dict[Key, Entry]) -> list:
    return estimates(planned, rates, None, 1)


def test_only_what_is_to_do_is_counted() -> None:
    planned = steps(tiny())
    rates = measured_by({"*": (0.0, 1e-2)}, planned)
    for step in planned:
        if step.job.stage == "finetune":
            finish(step)
    after = steps(tiny())
    # The pool feeds nothing here. What only the finished trainings read need not be made again.
    done = {step.job.stage for step in after if not step.open}
    assert {"finetune", "pretrained"} - done == {"pretrained"}  # the spectra still read it
    assert [step.job.name for step in after if step.job.stage == "data" and not step.open] == ["digits-pool"]
    seconds = {estimate.stage: estimate.seconds for estimate in _estimates(after, rates)}
    assert seconds["finetune"] == 0 and seconds["spectra"] > 0
    for step in after:
        if step.job.stage in ("evaluate", "spectra", "gather", "diversity", "compare", "report"):
            finish(step)
    assert not any(step.open for step in steps(tiny()))
    assert bill.bill(tiny(), rates)[-1] == "nothing to do: every result is there"
    changed = steps(tiny(compare={"bootstrap": 60, "permutations": 50}))
    assert [step.job.stage for step in changed if step.open] == ["compare", "report"]


def test_a_block_that_grew_counts_its_new_seeds() -> None:
    for step in steps(tiny()):
        if step.job.name == "mlp/baseline":
            finish(step)
    models = [TINY["models"][0], {**TINY["models"][1], "baseline_runs": 6, "seeds_per_job": 6}]
    grown = [step for step in steps(tiny(models=models)) if step.job.name == "mlp/baseline"]
    assert {step.job.stage: (len(step.results), step.open) for step in grown} == {
        "finetune": (6, 2), "evaluate": (6, 2), "spectra": (6, 2),
    }  # fmt: skip


def test_what_was_never_run_is_said_to_be_unknown() -> None:
    planned = steps(tiny())
    rates = {key: entry for key, entry in measured_by({"*": (0.0, 1e-2)}, planned).items() if "lite0" not in key.kind}
    table = bill.bill(tiny(), rates)
    finetune = next(line for line in table if line.startswith("finetune"))
    assert "192 s" in finetune or "3.2 min" in finetune
    assert "+ unknown: no run of tf_efficientnet_lite0 at 32 px, float32, 8 a step yet" in finetune
    assert any(line.startswith("wall time: unknown") for line in table)
    assert "unknown" not in next(line for line in table if line.startswith("augment"))


def test_rates_of_a_gpu_are_not_those_of_the_cpu() -> None:
    planned = steps(tiny())
    rates = measured_by({"*": (0.0, 1e-2)}, planned)
    costs = {estimate.stage: estimate for estimate in estimates(planned, rates, "NVIDIA A100", 1)}
    assert costs["finetune"].seconds is None and costs["finetune"].on_gpu
    assert costs["finetune"].bytes > 0  # a network is as large whatever trained it
    assert costs["spectra"].seconds > 0 and not costs["spectra"].on_gpu


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
    measured_by({"*": (0.0, 1e-2)}, steps(tiny()))
    config = str(ROOT / "tests/configs/tiny.yaml")
    assert cli.main(["plan", "--configfile", config, "--on", "cpu", "--devices", "1,2,4,1000"]) == 0
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


def test_the_documented_table_is_the_one_computed(capsys: pytest.CaptureFixture) -> None:
    told = (ROOT / "docs/scale.md").read_text()
    command = re.search(r"`diversity-spectra (plan [^`]*)`", told, re.DOTALL)[1].split()
    places = {part: str(ROOT / part) for part in command if "/" in part}
    assert cli.main([places.get(part, part) for part in command]) == 0
    lines = capsys.readouterr().out.splitlines()
    start, stop = (next(i for i, line in enumerate(lines) if line.startswith(word)) for word in ("stage ", "total "))
    wall = next(i for i, line in enumerate(lines) if line.startswith("wall time on N"))
    for computed in ("\n".join(lines[start : stop + 1]), "\n".join(lines[wall:])):
        assert computed in told, f"docs/scale.md is out of date; this is what it should show:\n{computed}"
