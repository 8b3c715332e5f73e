"""The workflow itself: the tiny experiment from end to end, growth, failures, and two workflows at once.

Long because all of it looks at one finished experiment.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, Checkout, copy_checkout, would_run

from diversity_spectra import columns
from diversity_spectra.compare import TABLES
from diversity_spectra.config import experiments, load
from diversity_spectra.jobs import read_record
from diversity_spectra.planning import rates
from diversity_spectra.planning.estimate import estimates
from diversity_spectra.planning.steps import Work
from diversity_spectra.report.sections import figures_of
from diversity_spectra.stages import kinds
from diversity_spectra.work import Sets, npy_shape

pytestmark = pytest.mark.workflow
MODELS = [model.name for model in load(ROOT / TINY).models]
RUNS = ("finetune", "evaluate", "spectra")
END = {"gather": 1, "compare": 1, "report": 1}


def test_everything_promised_is_there(finished: Checkout) -> None:
    results = finished.folder / "results" / "tiny"
    for name in TABLES:
        frame = pd.read_parquet(results / "tables" / f"{name}.parquet")
        assert (results / "tables" / f"{name}.csv").exists()
        assert len(frame) or name == "validation", name
    for figure in figures_of(MODELS):
        for suffix in ("svg", "png"):
            assert (results / "figures" / f"{figure.name}.{suffix}").stat().st_size > 1000
    assert "<html" in (results / "report.html").read_text()[:500]
    named = [fact["name"] for fact in json.loads((results / "spec.json").read_text())["figures"]]
    assert named == [figure.name for figure in figures_of(MODELS)]
    spectra = pd.read_parquet(results / "tables" / "spectra.parquet")
    assert {"W", "dW"} <= set(spectra["matrix"])
    runs = pd.read_parquet(results / "tables" / "runs.parquet")
    assert len(runs) == 3 + 4 + 7 * 2


def test_every_column_is_documented(finished: Checkout) -> None:
    """And every documented one is written, unless it is said to depend on an option."""
    for name in TABLES:
        written = set(pd.read_parquet(finished.folder / f"results/tiny/tables/{name}.parquet").columns)
        assert columns.names(name, always=True) <= written <= columns.names(name), name


def test_progress_was_shown(finished: Checkout) -> None:
    lines = [line for line in finished.log.splitlines() if re.match(r"^ *\d+/\d+ ", line)]
    assert len(lines) > 30
    assert any(" left" in line for line in lines) and any("running: " in line for line in lines)
    log = next((finished.folder / "logs/finetune/mlp").glob("dropout-0.3-*/*.log")).read_text()
    assert "step 60 of 60" in log


def test_every_record_says_what_its_work_cost(finished: Checkout) -> None:
    records = [read_record(path.parent) for path in finished.folder.glob("results/cache/[!.]*/**/spec.json")]
    assert {record["stage"] for record in records} | {"sweep", "choose"} == set(kinds())
    for record in records:
        started, ended = (datetime.fromisoformat(record[moment]) for moment in ("started", "ended"))
        assert started < ended and record["startup"] >= 0 and record["work"]["units"] > 0, record["name"]
        assert record["sizes"].keys() == record["outputs"].keys() != set()
    trained = [record for record in records if record["stage"] == "finetune"]
    assert min(datetime.fromisoformat(r["ended"]) - datetime.fromisoformat(r["started"]) for r in trained).microseconds


def test_the_run_left_the_rates_to_estimate_its_own_repeat(
    finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    known = rates.measured()
    took = {
        folder.name: sum(float(path.read_text().splitlines()[1].split()[0]) for path in folder.rglob("*.benchmark.tsv"))
        for folder in (finished.folder / "logs").iterdir()
    }
    monkeypatch.chdir(tmp_path)  # where nothing is there yet
    planned = Work(experiments.load(ROOT / TINY)).steps
    costs = estimates(planned, known, None, 1)
    assert {cost.why for cost in costs} == {""}
    told = Counter()
    for cost in costs:
        told[cost.step.job.kind] += cost.seconds
    # Snakemake's own measurement of the same processes includes the interpreter and what other jobs took of the cores.
    assert set(told) == set(took)
    assert sum(took.values()) / 2 < sum(told.values()) < sum(took.values()) * 1.5, (told, took)
    sets = Sets({step.job.out: step.job for step in planned})
    monkeypatch.chdir(finished.folder)
    made = [step.job.out for step in planned if Path(step.job.out, "images.npy").exists()]
    assert len(made) == 9
    monkeypatch.chdir(tmp_path)
    shapes = {folder: sets.shape(folder) for folder in made}
    assert shapes == {folder: npy_shape(finished.folder / folder / "images.npy") for folder in made}


def test_what_is_made_again_elsewhere_is_the_same_whatever_the_cores(finished: Checkout, tmp_path: Path) -> None:
    """Every file of every result, but for those that hold times."""
    other = copy_checkout(tmp_path / "elsewhere")
    config = yaml.safe_load((ROOT / TINY).read_text())
    mlp = config["models"][1]
    mlp["conditions"] = {name: mlp["conditions"][name] for name in ("augmentation", "synthetic")}
    config["models"] = [mlp | {"seeds": 1, "baseline_runs": 2, "seeds_per_job": 1}]
    (other.folder / "part.yaml").write_text(yaml.safe_dump(config))
    other.snakemake("--cores", "3", "--until", "spectra", "evaluate", "diversity", config="part.yaml")
    records = [path.relative_to(other.folder) for path in other.folder.glob("results/cache/*/**/spec.json")]
    assert {path.parts[2] for path in records} >= {"data", "generate", "augment", "diversity", *RUNS}
    for path in records:
        theirs, ours = (json.loads((where.folder / path).read_text())["outputs"] for where in (other, finished))
        timed = {"history.parquet", "run.json"}
        assert {**theirs, **dict.fromkeys(timed)} == {**ours, **dict.fromkeys(timed)}, path


def test_nothing_changed_is_nothing_to_do(finished: Checkout) -> None:
    start = time.monotonic()
    done = finished.snakemake("--cores", "2")
    assert "Nothing to be done" in done.stderr
    assert time.monotonic() - start < 20


def test_a_second_workflow_in_the_folder_is_told(finished: Checkout) -> None:
    held = (
        "from diversity_spectra.planning.lock import hold; import time; hold('tiny'); print('held', flush=True);"
        "time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(finished.folder / "workflow")}
    other = subprocess.Popen(
        [sys.executable, "-c", held], cwd=finished.folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        (finished.folder / "results/tiny/report.html").write_text("")  # something is to do
        done = finished.snakemake("--cores", "2", check=False)
        assert done.returncode != 0
        assert f"another workflow (process {other.pid}) is at work on experiment 'tiny'" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        other.kill()
        other.wait()
    # The killed process leaves no lock, and no result was lost.
    assert re.findall(r"^1/1 .* (\w+ tiny): ", finished.snakemake("--cores", "2").stderr, re.MULTILINE) == [
        "report tiny"
    ]
    assert "Nothing to be done" in finished.snakemake("--cores", "2").stderr


# ---------------------------------------------------------------- what a checkout is told


def test_why_says_it_in_words(edited: Checkout) -> None:
    said = edited.run("diversity-spectra", "why", "finetune/mlp/dropout-0.3", "--configfile", TINY).stdout
    assert "up to date" in said
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["models"][1]["lr"] = 0.002
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    said = edited.run("diversity-spectra", "why", "finetune/mlp/dropout-0.3", "--configfile", "edit.yaml").stdout
    assert "setting training.lr: 0.001 -> 0.002" in said
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["models"][1]["baseline_runs"] += 2
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    said = edited.run("diversity-spectra", "why", "finetune/mlp/baseline", "--configfile", "edit.yaml").stdout
    assert "2 of its results are not there" in said


def test_two_experiments_do_not_make_the_same_results_at_once(edited: Checkout) -> None:
    """Snakemake would delete what the other has just made before it makes it again."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["experiment"] = "second"
    config["models"][1]["conditions"]["dropout"]["rates"].append(0.1)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    mine = next(job for job in plan_of(edited, "edit.yaml") if job.startswith("finetune/mlp/dropout-0.1-"))
    code = f"from diversity_spectra.planning.lock import claim; claim('first', [{mine!r}]); print('held', flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(edited.folder / "workflow")}
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=edited.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == "held\n"
        done = edited.snakemake("--cores", "2", config="edit.yaml", check=False)
        assert done.returncode != 0
        assert (
            f"experiment 'first' (process {other.pid}) is making 1 of the same results (finetune/mlp/dropout-0.1)"
            in (done.stderr)
        )
    finally:
        other.kill()
        other.wait()
    # A copy of it makes nothing that is not there yet: it disturbs nobody.
    assert "Nothing to be done" in edited.snakemake("--cores", "2").stderr


def plan_of(checkout: Checkout, config: str) -> list[str]:
    """All jobs of a configuration of the checkout, as `stage/name-key`."""
    code = (
        "import sys; from diversity_spectra.planning import start;"
        "print(*(f'{job.kind}/{job.item}' for job in start.plan(sys.argv[1:], {}, ()).jobs.values()), sep='\\n')"
    )
    return checkout.run("python", "-c", code, config).stdout.split()


# ---------------------------------------------------------------- growth and failure


def test_added_seeds_keep_the_others_and_a_failure_names_its_run(edited: Checkout) -> None:
    """One run for both: three more baseline runs in a block that had two, and a condition that diverges."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["models"] = [copy.deepcopy(config["models"][1])]
    model = config["models"][0]
    model.update(baseline_runs=5, seeds_per_job=8)
    model["conditions"] = {"weight_decay": {"values": [1e30]}}
    config["diversity"]["embedding"] = "none"
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    kept = next(edited.folder.glob("results/cache/finetune/mlp/baseline-*/seed-3/spec.json"))
    before = json.loads(kept.read_text())
    done = edited.snakemake("--cores", "2", "--keep-going", config="edit.yaml", check=False)
    assert done.returncode != 0
    failures = [line for line in done.stderr.splitlines() if line.startswith("FAILED")]
    assert len(failures) == 1, done.stderr
    assert (
        "finetune mlp/weight_decay-1e+30, seeds 0-1: error: mlp/weight_decay-1e+30, seed 0: the loss is" in failures[0]
    )
    assert "logs/finetune/mlp/weight_decay-1e+30" in failures[0]
    # The others went on, and the finished seeds were not trained again.
    assert json.loads(kept.read_text()) == before
    assert (kept.parent.parent / "seed-4/model.safetensors").exists()
    evaluated = next(edited.folder.glob("results/cache/evaluate/mlp/baseline-*/seed-4/metrics.parquet"), None)
    assert evaluated is not None


@pytest.mark.faults
def test_generation_that_is_killed_goes_on_with_the_missing_shards(finished: Checkout, tmp_path: Path) -> None:
    """SIGKILL to everything while the last shard is being drawn, with the first one finished."""
    folder = tmp_path / "killed"
    shutil.copytree(finished.folder, folder, symlinks=True)
    checkout, cache = Checkout(folder), folder / "results/cache"
    images = {path.parent.name: path.read_bytes() for path in cache.glob("generate/*/images.npy")}
    shutil.rmtree(folder / "results/tiny")
    for place in cache.iterdir():
        if place.name not in ("data", "generator"):  # what needs no synthetic image
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    profile = ("--workflow-profile", "workflow/profiles/workstation")
    options = ("--configfile", TINY, "--cores", "1", "--until", "generate", *profile)
    started = subprocess.Popen(
        [Path(sys.executable).parent / "snakemake", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "workflow")},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (list(cache.glob("shard/ddpm-*/spec.json")) and list(cache.glob("shard/.ddpm-*"))):
            assert started.poll() is None, "it must not end before it is killed"
            time.sleep(0.01)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    (kept,) = cache.glob("shard/ddpm-*/spec.json")
    before = kept.read_text(), kept.stat().st_ino
    done = checkout.run("snakemake", *options)
    made = re.findall(r"^ *\d+/\d+ +\S+ +(\w+)", done.stderr, re.MULTILINE)
    assert sorted(made) == ["generate", "shard"], "the finished shard is not drawn again"
    assert (kept.read_text(), kept.stat().st_ino) == before
    assert {path.parent.name: path.read_bytes() for path in cache.glob("generate/*/images.npy")} == images


def test_a_checkpoint_stands_as_a_condition(edited: Checkout) -> None:
    config = yaml.safe_load((ROOT / TINY).read_text())
    mine = next(edited.folder.glob("results/cache/finetune/mlp/dropout-0.6-*/seed-0/model.safetensors"))
    shutil.copy(mine, edited.folder / "mine.safetensors")
    config["models"][1]["conditions"]["checkpoint"] = {"mine": "mine.safetensors"}
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    assert would_run(edited, "edit.yaml") == {"finetune": 1, "evaluate": 1, "spectra": 1, **END}
    edited.snakemake("--cores", "2", config="edit.yaml")
    evaluation = pd.read_parquet(edited.folder / "results/tiny/tables/evaluation.parquet")
    own = evaluation[evaluation["condition"] == "checkpoint-mine"].set_index("set")["accuracy"]
    source = evaluation[(evaluation["condition"] == "dropout-0.6") & (evaluation["seed"] == 0)].set_index("set")[
        "accuracy"
    ]
    assert own.equals(source)


def test_a_damaged_cached_file_is_named(edited: Checkout) -> None:
    damaged = next(edited.folder.glob("results/cache/data/digits-train-*/images.npy"))
    with damaged.open("r+b") as stream:
        stream.seek(3000)
        stream.write(b"\xff\x00\xff\x00")
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["models"][1]["conditions"]["dropout"]["rates"].append(0.1)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    done = edited.snakemake("--cores", "2", config="edit.yaml", check=False)
    assert f"{damaged.relative_to(edited.folder)} is damaged" in done.stderr
    assert "delete the folder" in done.stderr
    shutil.rmtree(damaged.parent)
    edited.snakemake("--cores", "2", "--until", "finetune", config="edit.yaml")


def test_as_a_module_of_another_workflow_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(
        f"module study:\n    snakefile: {str(ROOT / 'Snakefile')!r}\nuse rule * from study as study_*\n"
    )
    done = Checkout(tmp_path).run("snakemake", "-n", check=False)
    assert done.returncode == 1
    assert "cannot be a module of another workflow" in done.stdout and "Traceback" not in done.stdout


def test_a_snakemake_of_another_environment_is_refused(tmp_path: Path) -> None:
    copied = copy_checkout(tmp_path / "checkout")
    (copied.folder / "workflow/sitecustomize.py").write_text(  # found through PYTHONPATH at every start of Python
        "import importlib.util as u\nfound = u.find_spec\nu.find_spec = lambda name: None if name == 'timm' else found(name)\n"
    )
    done = copied.snakemake("-n", check=False)
    assert done.returncode == 1
    assert "lacks timm: run `make env`" in done.stdout and "Traceback" not in done.stdout


def test_a_copy_runs_its_own_code(tmp_path: Path) -> None:
    """Though the environment is installed from another checkout."""
    copied = copy_checkout(tmp_path / "copy")
    module = copied.folder / "workflow/diversity_spectra/stages.py"
    module.write_text(module.read_text() + 'import sys; print("code of the copy", file=sys.stderr)\n')
    done = copied.snakemake("-n", package=ROOT / "workflow")
    assert "code of the copy" in done.stderr


def test_a_command_says_which_checkout_it_is_of(tmp_path: Path) -> None:
    copied = copy_checkout(tmp_path / "copy")
    done = subprocess.run(
        [Path(sys.executable).parent / "diversity-spectra", "check", "--configfile", TINY],
        cwd=copied.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert (
        done.stderr == f"note: this is the code of {ROOT / 'workflow'}; PYTHONPATH=workflow runs that of this folder\n"
    )
