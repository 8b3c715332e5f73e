"""What a cache keeps: weights that are read go and stay gone, and `clean` removes what no configuration needs."""

from __future__ import annotations

import copy
import errno
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, copy_checkout, would_run

from diversity_spectra import cli
from diversity_spectra.config import read_yaml
from diversity_spectra.config.experiments import load
from diversity_spectra.jobs import RECORD
from diversity_spectra.planning import lock
from diversity_spectra.planning.steps import Work


def small() -> dict:
    """One condition beside the plain one, no augmentation and no generator."""
    config = read_yaml(ROOT / TINY)
    config["models"] = config["models"][1:]
    config["models"][0] |= {"conditions": {"dropout": {"rates": [0.6]}}, "weights": "none"}
    config["models"][0].pop("pretrain_steps", None)
    config.pop("generator", None)
    return config


@pytest.mark.workflow
def test_weights_that_were_read_go_and_stay_gone(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path)
    config = small() | {"execution": {"keep_weights": "first_seed"}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    checkout.snakemake("--cores", "2", config="small.yaml")
    kept = sorted(path.parent.name for path in tmp_path.glob("results/cache/finetune/**/model.safetensors"))
    assert kept == ["seed-0", "seed-0"]
    assert not would_run(checkout, "small.yaml")
    config["models"][0]["conditions"]["dropout"]["rates"].append(0.3)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    blocks = {"finetune": 1, "evaluate": 1, "spectra": 1}
    assert would_run(checkout, "small.yaml") == blocks | {"gather": 1, "compare": 1, "report": 1}


def made(folder: Path, config: dict, name: str) -> Work:
    """Every result of an experiment, as far as `clean` looks at it."""
    (folder / name).write_text(yaml.safe_dump(config))
    work = Work(load(str(folder / name)))
    for step in work.steps:
        for result in step.results:
            Path(result).mkdir(parents=True, exist_ok=True)
            Path(result, RECORD).write_text("{}")
            Path(result, "weights").write_bytes(bytes(1000))
    return work


def test_clean_removes_exactly_what_the_kept_experiments_do_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second, third = (copy.deepcopy(small()) | {"experiment": name} for name in ("first", "second", "third"))
    second["models"][0]["steps"] += 1
    third["models"][0] |= {"seeds": 5, "baseline_runs": 10}
    works = [made(tmp_path, config, f"{config['experiment']}.yaml") for config in (first, second, third)]
    kept, others = (
        {result for work in part for step in work.steps for result in step.results} for part in (works[:2], works[2:])
    )
    arguments = ["clean", "--configfile", "first.yaml", "--configfile", "second.yaml"]
    assert cli.main(arguments) == 0
    listed = capsys.readouterr().out
    assert all(Path(result).exists() for result in kept | others) and "--remove" in listed
    assert "not needed by first.yaml and second.yaml" in listed
    assert cli.main([*arguments, "--remove"]) == 0
    assert all(Path(result, RECORD).exists() for result in kept)
    assert others - kept and not any(Path(result).exists() for result in others - kept)
    assert all(str(Path(result)) in listed for result in others - kept if Path(result).name.startswith("seed-"))


def test_clean_waits_for_no_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path, small(), "small.yaml")
    code = "from diversity_spectra.planning import lock; lock.claim('busy', {'finetune/x'}); print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert cli.main(["clean", "--configfile", "small.yaml", "--remove"]) == 2
    assert "experiment 'busy'" in capsys.readouterr().err
    other.communicate("\n")
    assert cli.main(["clean", "--configfile", "small.yaml", "--remove"]) == 0


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def flock(stream: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock.fcntl, "flock", flock)
    lock.hold("mine")
    assert "No locks available" in capsys.readouterr().err


def test_what_cannot_be_read_of_a_dead_workflow_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(lock.MAKERS, "closed-1.json").mkdir(parents=True)  # opening it fails, as for a file of another user's alone
    lock.claim("mine", {"finetune/x"})
    assert [path.is_dir() for path in lock.MAKERS.glob("closed-*")] == [True]


def test_a_cache_that_is_only_read_needs_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock.claim("mine", set())
    assert not Path("results").exists()
