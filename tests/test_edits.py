"""What an edit makes the workflow compute again, and what not; in the same way whatever Snakemake remembers.

Long because all of it looks at one finished experiment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from conftest import COPIED, ROOT, TINY, Checkout, would_run
from dry_run import dry_run

from diversity_spectra.stages import kinds

pytestmark = pytest.mark.workflow


def would_run_anyhow(checkout: Checkout, config: str = TINY) -> Counter:
    """Jobs by stage of a dry run: as it is, and in a new copy, which finds the results but nothing that Snakemake keeps."""
    as_it_is = would_run(checkout, config)
    with tempfile.TemporaryDirectory() as folder:
        for name in (*COPIED, config, "results"):
            if not Path(folder, name).exists():
                Path(folder, name).parent.mkdir(exist_ok=True)
                Path(folder, name).symlink_to(checkout.folder / name)
        assert would_run(Checkout(Path(folder)), config) == as_it_is, "in a new copy"
    return as_it_is


ConfigEdit = Callable[[dict], object]
RUNS = ("finetune", "evaluate", "spectra")
END = {"gather": 1, "compare": 1, "report": 1}


def _mlp(config: dict) -> dict:
    return config["models"][1]


def test_the_edit_before_is_undone_by_going_back(edited: Checkout) -> None:
    """An earlier setting finds the earlier tables and the earlier page, without a computation."""
    place = edited.folder / "results/tiny"
    before = {path.name: path.read_bytes() for path in [place / "report.html", *place.glob("*/*.*")]}
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["compare"]["bootstrap"] = 60
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    edited.snakemake("--cores", "2", config="edit.yaml")
    assert (place / "tables/alignment.parquet").read_bytes() != before["alignment.parquet"]
    assert would_run_anyhow(edited) == {"compare": 1, "report": 1}
    edited.snakemake("--cores", "2")
    assert {path.name: path.read_bytes() for path in [place / "report.html", *place.glob("*/*.*")]} == before
    written = [edited.folder.glob(f"logs/{stage}/tiny-*.log") for stage in ("compare", "report")]
    logs = [max(paths, key=lambda path: path.stat().st_mtime).read_text() for paths in written]
    assert all("laid in" in log and "wrote" not in log for log in logs), logs


@pytest.mark.parametrize("name", ["report.html", "tables/runs.csv", "figures/diversity.png", "spec.json"])
@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_a_promised_file_is_laid_again(edited: Checkout, name: str, how: str) -> None:
    file = edited.folder / "results/tiny" / name
    content = file.read_bytes()
    file.unlink() if how == "deleted" else file.write_bytes(b"")
    assert would_run(edited) == {"compare" if name.startswith("tables") else "report": 1}
    edited.snakemake("--cores", "2")
    assert file.read_bytes() == content and would_run(edited) == {}


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
        lambda c: _mlp(c).update(steps=65),
        {"finetune": 8, "evaluate": 8, "spectra": 8, **END},
    ),
    "swap two values of one type": (_swap, {"finetune": 8, "evaluate": 8, "spectra": 8, **END}),
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
    "change an option of the spectra": (lambda c: c.update(spectra={"bootstrap": 10}), {"spectra": 10, **END}),
    "change an option of the comparison": (lambda c: c["compare"].update(bootstrap=60), {"compare": 1, "report": 1}),
    "change a colour": (lambda c: c["report"].update(palette="deep"), {"report": 1}),
    "change the title": (lambda c: c["report"].update(title="Mine"), {"report": 1}),
    "change device, threads, batch, saving": (
        lambda c: c.update(execution={"device": "cpu", "threads": 2, "generate_batch": 3, "save_every": 9.0}),
        {},
    ),
    "the same network under another name, with a seed more in blocks of its own": (
        lambda c: c["models"].append({**_mlp(c), "name": "twin", "seeds": 3, "baseline_runs": 6, "seeds_per_job": 1}),
        {"finetune": 9, "evaluate": 9, "spectra": 9, **END},
    ),
    "the versions that are installed count, the orders of the scores do not": (
        lambda c: (c.update(packages=["numpy"]), c["diversity"].update(orders=["2", "1"])),
        {"report": 1},  # which shows the configuration
    ),
    "add a corruption": (
        lambda c: c["ood"][1]["corruptions"].append("contrast"),
        {"data": 1, "evaluate": 10, **END},
    ),
}


@pytest.mark.parametrize("name", CONFIG_EDITS)
def test_edit_of_the_configuration(edited: Checkout, name: str) -> None:
    change, expected = CONFIG_EDITS[name]
    config = yaml.safe_load((ROOT / TINY).read_text())
    change(config)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
    assert would_run_anyhow(edited, "edit.yaml") == expected


@pytest.mark.parametrize("name", ["nothing", "add a condition", "change the number of shards"])
def test_what_snakemake_remembers_decides_nothing(edited: Checkout, name: str) -> None:
    change, expected = CONFIG_EDITS[name]
    config = yaml.safe_load((ROOT / TINY).read_text())
    change(config)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    remembered = edited.folder / ".snakemake"
    aside = remembered.rename(edited.folder / ".aside")
    try:
        assert would_run(edited, "edit.yaml") == expected
        shutil.rmtree(remembered)
    finally:
        aside.rename(remembered)


def test_a_second_experiment_with_more_seeds_draws_no_image_again(edited: Checkout) -> None:
    """It differs from the finished one in its name and its `seeds`: only the runs that are new are computed."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["experiment"] = "second"
    _mlp(config).update(seeds=3, baseline_runs=6)
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    found = would_run_anyhow(edited, "edit.yaml")
    assert not {"data", "generator", "shard", "generate", "augment", "diversity", "pretrained"} & set(found)
    assert found == {"finetune": 8, "evaluate": 8, "spectra": 8, **END}


STAGE_EDITS = {
    "data": ("data/split.py", "permutation(members)", "permutation(members)[::-1]"),
    "generate": ("generate/ddpm.py", "EMA = 0.995", "EMA = 0.99"),
    "augment": ("augment/recipe.py", "round(ratio", "int(ratio"),
    "diversity": ("diversity/command.py", "compared = ", "compared = bool(1) and "),
    "finetune": ("finetune/training.py", "RECORDS = 20", "RECORDS = 10"),
    "evaluate": ("evaluate/command.py", "BATCH = 256", "BATCH = 128"),
    "spectra": ("spectra/command.py", "json.loads(", "json.loads(str() + "),
    "gather": ("compare/gather.py", "_of_layer(layer, depth, -1)", "_of_layer(layer, depth, -2)"),
    "compare": ("compare/claims.py", "SUPPORTED if low > 0", "SUPPORTED if low > 0.01"),
    "report": ("report/sections/metric.py", "lw=0.7", "lw=0.8"),
}
FIRST = {"generate": "generator", "finetune": "pretrained"}


@pytest.mark.parametrize("stage", STAGE_EDITS)
def test_edit_of_a_stage_reruns_it_and_what_follows(edited: Checkout, stage: str) -> None:
    file, old, new = STAGE_EDITS[stage]
    module = edited.folder / "workflow/diversity_spectra" / file
    text = module.read_text()
    assert old in text
    order = list(kinds())
    try:
        module.write_text(text.replace(old, new))
        found = set(would_run_anyhow(edited))
    finally:
        module.write_text(text)
    first = FIRST.get(stage, stage)
    assert first in found
    assert all(order.index(other) >= order.index(first) for other in found), found
    assert "report" in found


def test_a_kind_of_augmentation_touches_its_own_runs_only(edited: Checkout) -> None:
    """A new kind is listed in the report's record of the configuration, and among the families of the comparison."""
    kinds = edited.folder / "workflow/diversity_spectra/augment/kinds"
    rotation = (kinds / "rotation.py").read_text()
    try:
        (kinds / "turn.py").write_text(rotation.replace("rotation", "turn"))
        assert would_run_anyhow(edited) == {"report": 1}
        (kinds / "turn.py").unlink()
        (kinds / "rotation.py").write_text(rotation.replace("BILINEAR", "NEAREST"))
        stages = ("augment", "diversity", "finetune", "evaluate", "spectra")
        assert would_run_anyhow(edited) == {**dict.fromkeys(stages, 1), **END}
    finally:
        (kinds / "turn.py").unlink(missing_ok=True)
        (kinds / "rotation.py").write_text(rotation)


def test_another_way_to_write_a_number_touches_nothing(edited: Checkout) -> None:
    text = (ROOT / TINY).read_text()
    assert "lr: 5.0e-4" in text
    (edited.folder / "edit.yaml").write_text(text.replace("lr: 5.0e-4", "lr: 5e-4"))
    assert would_run_anyhow(edited, "edit.yaml") == {}


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
        assert would_run_anyhow(edited) == {}
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
        assert would_run_anyhow(edited) == {}
        config = yaml.safe_load((ROOT / TINY).read_text())
        config["models"][1]["conditions"]["dropout"]["rates"].append(0.1)
        (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
        assert would_run_anyhow(edited, "edit.yaml") == {"data": 1, "finetune": 1, "evaluate": 1, "spectra": 2, **END}
        config = yaml.safe_load((ROOT / TINY).read_text())
        config["report"]["palette"] = "deep"
        (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
        edited.snakemake("--cores", "2", config="edit.yaml")  # one report, without samples of what is gone
        logs = sorted(edited.folder.glob("logs/report/tiny-*.log"), key=lambda path: path.stat().st_mtime)
        said = logs[-1].read_text()
        assert said.count("is not there any more") == 2
    finally:
        for path, content in contents.items():
            path.write_bytes(content)
        edited.snakemake("--cores", "2")  # the report of before


def test_a_dry_run_removes_nothing(edited: Checkout) -> None:
    """Neither of what would be made anew, nor of what lacks a file that something would need."""
    weights = next(edited.folder.glob("results/cache/finetune/mlp/baseline-*/seed-1/model.safetensors"))
    content, before = weights.read_bytes(), sorted(edited.folder.glob("results/**/spec.json"))
    weights.unlink()
    try:
        for asked in (["-R", "finetune"], ["--config", "spectra={bootstrap: 9}"]):
            said = dry_run(edited.folder, "--configfile", TINY, "--logger", "progress", *asked)
            assert "would run finetune mlp/baseline" in said and "would run spectra mlp/baseline" in said
        assert sorted(edited.folder.glob("results/**/spec.json")) == before and would_run(edited) == {}
    finally:
        weights.write_bytes(content)


def test_snakemakes_own_graph_has_every_stage(edited: Checkout) -> None:
    drawn = dry_run(edited.folder, "--configfile", TINY, "--rulegraph")
    assert all(f'label = "{kind}"' in drawn for kind in set(kinds()) - {"sweep", "choose"})
    assert would_run(edited) == {}


@pytest.mark.parametrize("stage", ["evaluate", "compare"])
def test_what_is_asked_for_again_is_made_anew(edited: Checkout, stage: str) -> None:
    """Every seed of a block, and what lies in two places."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    if stage == "evaluate":
        config["models"] = [{**_mlp(config), "conditions": {}}]
    (edited.folder / "edit.yaml").write_text(yaml.safe_dump(config))
    records = "evaluate/mlp/baseline-*/seed-*" if stage == "evaluate" else "compare/tiny-*"
    later = time.time() + 86400  # as on a machine whose clock was set back: no result is older than its inputs for it
    for path in edited.folder.glob("results/cache/*/**/*.*"):
        os.utime(path, (later, later))
    start = datetime.now(UTC).isoformat()
    edited.snakemake("--cores", "1", "--forcerun", stage, "--until", stage, config="edit.yaml")
    ended = [json.loads(path.read_text())["ended"] for path in edited.folder.glob(f"results/cache/{records}/spec.json")]
    assert sum(moment > start for moment in ended) == (4 if stage == "evaluate" else 1)
    assert would_run(edited) == {}


def test_a_package_upgrade_is_said_and_runs_nothing_unless_asked(edited: Checkout) -> None:
    records = list(edited.folder.glob("results/cache/finetune/mlp/*/seed-0/spec.json"))
    contents = {path: path.read_text() for path in records}
    try:
        for path, text in contents.items():
            spec = json.loads(text)
            spec["packages"]["torch"] = "1.0.0"
            path.write_text(json.dumps(spec))
        assert would_run_anyhow(edited) == {}
        said = edited.run("diversity-spectra", "plan", "--configfile", TINY).stdout
        assert f"note: {len(records)} results were made with torch 1.0.0" in said
        config = yaml.safe_load((ROOT / TINY).read_text())
        (edited.folder / "edit.yaml").write_text(yaml.safe_dump({**config, "packages": ["torch"]}))
        # Of the network that was trained with the present version nothing is made again.
        assert would_run_anyhow(edited, "edit.yaml") == {"finetune": 8, "evaluate": 8, "spectra": 8, **END}
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
    assert would_run_anyhow(edited)["finetune"] == 10
    git("checkout", "-q", "-")
    assert would_run_anyhow(edited) == {}
