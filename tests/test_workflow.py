"""The workflow itself: the tiny experiment from end to end, and what an edit makes it compute again.

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
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT, TINY, Checkout, copy_checkout

from diversity_spectra import columns
from diversity_spectra.compare import TABLES
from diversity_spectra.config import load
from diversity_spectra.costs import calibration
from diversity_spectra.costs.sizes import Sets, npy_shape
from diversity_spectra.planning import experiments
from diversity_spectra.planning.estimate import estimates
from diversity_spectra.planning.graph import steps
from diversity_spectra.planning.union import plan_all
from diversity_spectra.report import figures

pytestmark = pytest.mark.workflow
JOB = re.compile(r"^would run (\S+)(?: (\S+?))?(?:, seeds (\S+))?:", re.MULTILINE)


def would_run(checkout: Checkout, config: str = TINY) -> Counter:
    """Jobs by stage that a dry run lists."""
    done = checkout.snakemake("-n", config=config)
    return Counter(stage for stage, _, _ in JOB.findall(done.stdout + done.stderr))


def tables(checkout: Checkout) -> dict[str, bytes]:
    return {name: (checkout.folder / f"results/tiny/tables/{name}.parquet").read_bytes() for name in TABLES}


def test_everything_promised_is_there(finished: Checkout) -> None:
    results = finished.folder / "results" / "tiny"
    for name in TABLES:
        frame = pd.read_parquet(results / "tables" / f"{name}.parquet")
        assert (results / "tables" / f"{name}.csv").exists()
        assert len(frame) or name == "validation", name
    for figure in figures(load(ROOT / TINY)):
        for suffix in ("svg", "png"):
            assert (results / "figures" / f"{figure.name}.{suffix}").stat().st_size > 1000
    assert "<html" in (results / "report.html").read_text()[:500]
    named = [fact["name"] for fact in json.loads((results / "spec.json").read_text())["figures"]]
    assert named == [figure.name for figure in figures(load(ROOT / TINY))]
    spectra = pd.read_parquet(results / "tables" / "spectra.parquet")
    assert {"W", "dW"} <= set(spectra["matrix"])
    runs = pd.read_parquet(results / "tables" / "runs.parquet")
    assert len(runs) == 3 + 4 + 6 * 2


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


def test_the_run_left_the_rates_to_estimate_its_own_repeat(
    finished: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = calibration.read(finished.folder / calibration.PATH)
    took = {
        folder.name: sum(float(path.read_text().splitlines()[1].split()[0]) for path in folder.rglob("*.benchmark.tsv"))
        for folder in (finished.folder / "logs").iterdir()
    }
    monkeypatch.chdir(tmp_path)  # where nothing is there yet
    planned = steps(plan_all(experiments.load(ROOT / TINY)))
    costs = estimates(planned, rates, None, 1)
    assert {cost.why for cost in costs} == {""}
    told = Counter()
    for cost in costs:
        told[cost.stage] += cost.seconds
    # Snakemake's own measurement of the same processes includes the interpreter.
    assert set(told) == set(took)
    assert sum(took.values()) / 1.5 < sum(told.values()) < sum(took.values()) * 1.5, (told, took)
    sets = Sets({step.job.out: step.job.spec for step in planned})
    monkeypatch.chdir(finished.folder)
    made = [step.job.out for step in planned if Path(step.job.out, "images.npy").exists()]
    assert len(made) == 9
    monkeypatch.chdir(tmp_path)
    shapes = {folder: sets.shape(folder) for folder in made}
    assert shapes == {folder: npy_shape(finished.folder / folder / "images.npy") for folder in made}


def test_a_second_run_has_the_same_tables_whatever_the_cores(finished: Checkout, tmp_path: Path) -> None:
    other = copy_checkout(tmp_path / "elsewhere")
    other.snakemake("--cores", "3")
    mine, theirs = tables(finished), tables(other)
    assert [name for name in TABLES if mine[name] != theirs[name]] == []


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
        done = finished.snakemake("--cores", "2", "--forcerun", "compare", check=False)
        assert done.returncode != 0
        assert f"another workflow (process {other.pid}) is at work on experiment 'tiny'" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        other.kill()
        other.wait()
    # The killed process leaves no lock, and no result was lost.
    assert "Nothing to be done" in finished.snakemake("--cores", "2").stderr


# ---------------------------------------------------------------- the table of edits


@pytest.fixture(scope="module")
def edited(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished checkout at another place: moving it is the first edit."""
    folder = tmp_path_factory.mktemp("edited") / "moved"
    shutil.copytree(finished.folder, folder, symlinks=True)
    shutil.copy(ROOT / ".gitignore", folder)
    return Checkout(folder)


ConfigEdit = Callable[[dict], object]
RUNS = ("finetune", "evaluate", "spectra")
END = {"gather": 1, "compare": 1, "report": 1}


def _mlp(config: dict) -> dict:
    return config["models"][1]


def _swap(config: dict) -> None:
    _mlp(config)["lr"], _mlp(config)["warmup"] = 0.1, 1e-3


CONFIG_EDITS: dict[str, tuple[ConfigEdit, dict[str, int]]] = {
    "nothing": (lambda c: None, {}),
    "add a condition": (
        lambda c: _mlp(c)["conditions"]["dropout"]["rates"].append(0.1),
        {"finetune": 1, "evaluate": 1, "spectra": 1, **END},
    ),
    "remove a condition": (lambda c: _mlp(c)["conditions"]["dropout"]["rates"].pop(), END),
    "add a seed": (
        lambda c: c["models"][0].update(baseline_runs=3),
        {"finetune": 1, "evaluate": 1, "spectra": 1, **END},
    ),
    "add an augmentation level": (
        lambda c: _mlp(c)["conditions"]["augmentation"]["rotation"].append(40),
        {"augment": 1, "diversity": 1, "finetune": 1, "evaluate": 1, "spectra": 1, **END},
    ),
    "change the steps of one model": (
        lambda c: _mlp(c).update(steps=61),
        {"finetune": 7, "evaluate": 7, "spectra": 7, **END},
    ),
    "swap two values of one type": (_swap, {"finetune": 7, "evaluate": 7, "spectra": 7, **END}),
    "change the generator's steps": (
        lambda c: c["generator"].update(train_steps=13),
        {
            "generator": 1,
            "shard": 2,
            "generate": 1,
            "augment": 1,
            "diversity": 2,
            "finetune": 1,
            "evaluate": 3,
            "spectra": 1,
            **END,
        },
    ),
    "change the number of shards": (
        lambda c: c["generator"].update(shards=3),
        {"shard": 3, "generate": 1, "augment": 1, "diversity": 2, "finetune": 1, "evaluate": 3, "spectra": 1, **END},
    ),
    "change an option of the spectra": (lambda c: c.update(spectra={"bootstrap": 10}), {"spectra": 9, **END}),
    "change an option of the comparison": (lambda c: c["compare"].update(bootstrap=60), {"compare": 1, "report": 1}),
    "change a colour": (lambda c: c["report"].update(palette="deep"), {"report": 1}),
    "change the title": (lambda c: c["report"].update(title="Mine"), {"report": 1}),
    "change device, threads, batch, saving": (
        lambda c: c.update(execution={"device": "cpu", "threads": 2, "generate_batch": 3, "save_every": 9.0}),
        {},
    ),
    "add a corruption": (
        lambda c: c["ood"][1]["corruptions"].append("contrast"),
        {"data": 1, "evaluate": 9, **END},
    ),
}


@pytest.mark.parametrize("name", CONFIG_EDITS)
def test_edit_of_the_configuration(edited: Checkout, name: str) -> None:
    change, expected = CONFIG_EDITS[name]
    config = yaml.safe_load((ROOT / TINY).read_text())
    change(config)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
    assert would_run(edited, "edit.yaml") == expected


def test_a_second_experiment_with_more_seeds_draws_no_image_again(edited: Checkout) -> None:
    """It differs from the finished one in its name and its `seeds`: only the runs that are new are computed."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["experiment"] = "second"
    _mlp(config).update(seeds=3, baseline_runs=6)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    found = would_run(edited, "edit.yaml")
    assert not {"data", "generator", "shard", "generate", "augment", "diversity", "pretrained"} & set(found)
    assert found == {"finetune": 7, "evaluate": 7, "spectra": 7, **END}


STAGE_EDITS = {
    "data": ("data/split.py", "permutation(members)", "permutation(members)[::-1]"),
    "generate": ("generate/ddpm.py", "EMA = 0.995", "EMA = 0.99"),
    "augment": ("augment/recipe.py", "round(ratio", "int(ratio"),
    "diversity": ("diversity/job.py", "compared = ", "compared = bool(1) and "),
    "finetune": ("finetune/training.py", "RECORDS = 20", "RECORDS = 10"),
    "evaluate": ("evaluate/command.py", "BATCH = 256", "BATCH = 128"),
    "spectra": ("spectra/job.py", "log.info(", "log.warning("),
    "compare": ("compare/job.py", "datetime.now(UTC)", "datetime.now(tz=UTC)"),
    "report": ("report/sections/metric.py", "lw=0.7", "lw=0.8"),
}
FIRST = {"generate": "generator", "finetune": "pretrained"}


@pytest.mark.parametrize("stage", STAGE_EDITS)
def test_edit_of_a_stage_reruns_it_and_what_follows(edited: Checkout, stage: str) -> None:
    file, old, new = STAGE_EDITS[stage]
    module = edited.folder / "workflow/diversity_spectra" / file
    text = module.read_text()
    assert old in text
    order = ["data", "generator", "shard", "generate", "augment", "diversity", "pretrained", *RUNS, *END]
    try:
        module.write_text(text.replace(old, new))
        found = set(would_run(edited))
    finally:
        module.write_text(text)
    first = FIRST.get(stage, "gather" if stage == "compare" else stage)
    assert first in found
    assert all(order.index(other) >= order.index(first) for other in found), found
    assert "report" in found


def test_a_kind_of_augmentation_touches_its_own_runs_only(edited: Checkout) -> None:
    """A new kind is listed in the report's record of the configuration, and that is all."""
    kinds = edited.folder / "workflow/diversity_spectra/augment/kinds"
    rotation = (kinds / "rotation.py").read_text()
    try:
        (kinds / "turn.py").write_text(rotation.replace("rotation", "turn"))
        assert would_run(edited) == {"report": 1}
        (kinds / "turn.py").unlink()
        (kinds / "rotation.py").write_text(rotation.replace("BILINEAR", "NEAREST"))
        stages = ("augment", "diversity", "finetune", "evaluate", "spectra")
        assert would_run(edited) == {**dict.fromkeys(stages, 1), **END}
    finally:
        (kinds / "turn.py").unlink(missing_ok=True)
        (kinds / "rotation.py").write_text(rotation)


def test_another_way_to_write_a_number_touches_nothing(edited: Checkout) -> None:
    text = (ROOT / TINY).read_text()
    assert "lr: 5.0e-4" in text
    (edited.folder / "edit.yaml").write_text(text.replace("lr: 5.0e-4", "lr: 5e-4"))
    assert would_run(edited, "edit.yaml") == {}


def test_words_times_and_git_touch_nothing(edited: Checkout) -> None:
    package = edited.folder / "workflow/diversity_spectra"
    originals = {path: path.read_text() for path in package.rglob("*.py")}
    try:
        for path, text in originals.items():
            path.write_text(f"# a comment\n{text}\n# another\n")
        tiny = edited.folder / TINY
        tiny.write_text("# a comment\n" + tiny.read_text())
        later = time.time()
        for path in edited.folder.rglob("*"):
            if ".snakemake" not in path.parts:
                os.utime(path, (later, later))
        for command in (
            ["init", "-q"],
            ["add", "."],
            ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"],
        ):
            subprocess.run(["git", *command], cwd=edited.folder, check=True, capture_output=True)
        assert would_run(edited) == {}
    finally:
        for path, text in originals.items():
            path.write_text(text)


def test_a_deleted_file_is_made_again_when_something_needs_it(edited: Checkout) -> None:
    """Deleting what nothing needs any more computes nothing; an edit brings back just what it needs."""
    cache = edited.folder / "results/cache"
    removed = [
        next(cache.glob(pattern))
        for pattern in (
            "data/digits-train-*/images.npy",
            "generate/ddpm-*/images.npy",
            "spectra/mlp/baseline-*/seed-0/rows.parquet",
        )
    ]
    contents = {path: path.read_bytes() for path in removed}
    try:
        for path in removed:
            path.unlink()
        assert would_run(edited) == {}
        config = yaml.safe_load((ROOT / TINY).read_text())
        config["models"][1]["conditions"]["dropout"]["rates"].append(0.1)
        (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
        assert would_run(edited, "edit.yaml") == {"data": 1, "finetune": 1, "evaluate": 1, "spectra": 2, **END}
        config = yaml.safe_load((ROOT / TINY).read_text())
        config["report"]["palette"] = "deep"
        (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
        edited.snakemake("--cores", "2", config="edit.yaml")  # one report, without samples of what is gone
        said = (edited.folder / "logs/report/tiny.log").read_text()
        assert said.count("is not there any more") == 2
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
        edited.snakemake("--cores", "2")  # the report of before


def test_a_package_upgrade_is_said_and_runs_nothing_unless_asked(edited: Checkout) -> None:
    records = list(edited.folder.glob("results/cache/finetune/mlp/*/seed-0/spec.json"))
    contents = {path: path.read_text() for path in records}
    try:
        for path, text in contents.items():
            spec = json.loads(text)
            spec["packages"]["torch"] = "1.0.0"
            path.write_text(json.dumps(spec))
        assert would_run(edited) == {}
        said = edited.run("diversity-spectra", "plan", "--configfile", TINY).stdout
        assert f"note: {len(records)} results were made with torch 1.0.0" in said
        config = yaml.safe_load((ROOT / TINY).read_text())
        (edited.folder / "edit.yaml").write_text(yaml.safe_dump({**config, "packages": ["torch"]}))
        assert would_run(edited, "edit.yaml")["finetune"] == 9
    finally:
        for path, text in contents.items():
            path.write_text(text)


def test_another_branch_and_back_runs_nothing(edited: Checkout) -> None:
    def git(*command: str) -> None:
        subprocess.run(["git", *command], cwd=edited.folder, check=True, capture_output=True)

    module = edited.folder / "workflow/diversity_spectra/finetune/training.py"
    git("init", "-q")
    git("config", "user.name", "x")
    git("config", "user.email", "x")
    git("add", "Snakefile", "workflow", "tests")
    git("commit", "--allow-empty", "-qm", "here")
    git("checkout", "-qb", "other")
    module.write_text(module.read_text().replace("RECORDS = 20", "RECORDS = 10"))
    git("commit", "-qam", "there")
    assert would_run(edited)["finetune"] == 9
    git("checkout", "-q", "-")
    assert would_run(edited) == {}


def test_why_says_it_in_words(edited: Checkout) -> None:
    said = edited.run("diversity-spectra", "why", "finetune/mlp/dropout-0.3", "--configfile", TINY).stdout
    assert "up to date" in said
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["models"][1]["lr"] = 0.002
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    said = edited.run("diversity-spectra", "why", "finetune/mlp/dropout-0.3", "--configfile", "edit.yaml").stdout
    assert "setting lr: 0.001 -> 0.002" in said
    config = yaml.safe_load((ROOT / TINY).read_text())
    _mlp(config)["baseline_runs"] += 2
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    said = edited.run("diversity-spectra", "why", "finetune/mlp/baseline", "--configfile", "edit.yaml").stdout
    assert "2 of its runs are not there" in said


def test_two_experiments_do_not_make_the_same_results_at_once(edited: Checkout) -> None:
    """Snakemake would delete what the other has just made before it makes it again."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["experiment"] = "second"
    _mlp(config)["conditions"]["dropout"]["rates"].append(0.1)
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
        "import sys; from diversity_spectra.planning import experiments, union;"
        "made = union.plan_all(experiments.load(sys.argv[1]));"
        "print(*(f'{stage}/{item}' for stage, jobs in made.jobs.items() for item in jobs), sep='\\n')"
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
    edited.snakemake("--cores", "2", config="edit.yaml")
