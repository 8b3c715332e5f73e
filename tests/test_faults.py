"""Faults for real (`make test-faults`): kills at random moments, and a full disk in every stage."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, Checkout, assert_same_tables, copy_checkout, until, untrained

from diversity_spectra.config import experiments
from diversity_spectra.planning.steps import Work

pytestmark = pytest.mark.faults
KILLS = 25
PROFILE = ("--workflow-profile", "workflow/profiles/workstation")


def test_killed_at_random_moments_the_tables_are_the_same(finished: Checkout, tmp_path: Path) -> None:
    """SIGKILL to the whole process group, as a power cut: nothing is unlocked or deleted by hand in between."""
    checkout = copy_checkout(tmp_path / "killed")
    environment = {**os.environ, "PYTHONPATH": str(checkout.folder / "workflow")}
    command = [Path(sys.executable).parent / "snakemake", "--cores", "2", "--configfile", TINY, *PROFILE]
    moments = random.Random(0)
    kills = 0
    while kills < KILLS:
        started = subprocess.Popen(
            command, cwd=checkout.folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            started.wait(timeout=moments.uniform(2.5, 9.0))
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            kills += 1
            continue
        # Done before the kills were: one more run of everything after the data.
        assert started.returncode == 0
        for stage in ("finetune", "evaluate", "spectra", "gather", "compare", "report"):
            shutil.rmtree(checkout.folder / "results/cache" / stage)
        shutil.rmtree(checkout.folder / "results/tiny")
    checkout.snakemake("--cores", "2", *PROFILE)
    assert_same_tables(finished, checkout)
    assert not list((checkout.folder / "results/cache").glob(".resume/*"))


def test_code_edited_during_a_run_leaves_nothing_under_its_key(
    finished: Checkout, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The poison: a learning rate a hundred times as large while trainings run, and taken back afterwards."""
    checkout = untrained(finished, tmp_path / "poisoned")
    module = checkout.folder / "workflow/diversity_spectra/finetune/training.py"
    code = module.read_text()
    environment = {**os.environ, "PYTHONPATH": str(checkout.folder / "workflow")}
    command = [Path(sys.executable).parent / "snakemake", "--cores", "2", "--configfile", TINY, *PROFILE]
    workflow = subprocess.Popen(
        command, cwd=checkout.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    request.addfinalizer(workflow.kill)
    until(lambda: list(checkout.folder.glob("results/cache/finetune/*/*/seed-*/spec.json")), 600, "a trained run")
    assert 'group["lr"] = self.rate' in code
    module.write_text(code.replace('group["lr"] = self.rate', 'group["lr"] = 100 * self.rate'))
    said = workflow.communicate(timeout=900)[0]
    assert workflow.returncode != 0
    assert "changed since this job was planned, so nothing is stored" in said
    module.write_text(code)
    checkout.snakemake("--cores", "2", *PROFILE)
    assert_same_tables(finished, checkout)


@pytest.fixture
def small_disk(tmp_path: Path) -> Checkout:
    """A checkout whose results lie on a file system of their own, in memory."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    checkout = copy_checkout(tmp_path / "checkout")
    results = checkout.folder / "results"
    results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", results], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield checkout
    subprocess.run(["umount", results], check=True)


def test_results_that_cannot_be_written_are_said_in_one_line(small_disk: Checkout) -> None:
    results = small_disk.folder / "results"
    subprocess.run(["mount", "-o", "remount,ro", results], check=True)
    done = small_disk.snakemake("--cores", "1", check=False)
    assert done.returncode != 0
    assert "results/tiny cannot be written (Read-only file system)" in done.stderr
    assert "Traceback" not in done.stderr


STAGES = (
    "data", "generator", "shard", "generate", "augment", "diversity", "finetune", "evaluate", "spectra", "gather",
    "compare", "report",
)  # fmt: skip


def targets(stage: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that stand for all that a stage has still to make."""
    monkeypatch.chdir(folder)
    made = Work(experiments.load(ROOT / TINY))
    return [step.target for step in made.to_do if step.job.kind == stage]


def test_a_full_disk_is_named_in_every_stage_and_nothing_is_lost(
    finished: Checkout, small_disk: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = small_disk.folder / "results"
    for stage in STAGES:
        wanted = targets(stage, small_disk.folder, monkeypatch)
        assert wanted, stage
        ballast = results / "ballast"
        free = os.statvfs(results)
        subprocess.run(["fallocate", "-l", str(free.f_bavail * free.f_frsize - 8192), ballast], check=True)
        done = small_disk.snakemake("--cores", "1", *wanted, check=False)
        ballast.unlink()
        assert done.returncode != 0, wanted
        # Of a job, or of the workflow that cannot even keep its locks.
        failed = [line for line in done.stderr.splitlines() if line.startswith("FAILED") or "cannot be written" in line]
        assert failed and all("No space left" in line for line in failed), (wanted, done.stderr[-2000:])
        small_disk.snakemake("--cores", "2", *targets(stage, small_disk.folder, monkeypatch))
    assert_same_tables(finished, small_disk)
