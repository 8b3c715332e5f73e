"""The progress lines and the estimate of what remains."""

from __future__ import annotations

from pathlib import Path

from snakemake_logger_plugin_progress import Estimate, clock, job_name, reason_in_log


def test_jobs_are_named_in_words() -> None:
    assert job_name("finetune_0_7", {"item": "mlp/dropout-0.3-0123456789ab"}) == "finetune mlp/dropout-0.3, seeds 0-7"
    assert job_name("generator", {"item": "ddpm-0123456789ab"}) == "generator ddpm"
    assert job_name("compare", {}) == "compare"


def test_the_reason_is_the_error_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("12:00:00 step 1\nerror: mlp/x, seed 3: the loss is nan\nshutting down\n\n")
    assert reason_in_log([str(log)]) == "error: mlp/x, seed 3: the loss is nan"
    assert "left no message" in reason_in_log([str(tmp_path / "none")])


def test_the_reason_is_what_slurm_says_where_the_job_said_nothing(tmp_path: Path) -> None:
    own, slurm = tmp_path / "own.log", tmp_path / "7.log"
    own.write_text("12:00:00 step 3 of 60\n")
    limit = "slurmstepd-b: error: *** JOB 7 ON b CANCELLED AT 2026-01-01T12:00:01 DUE TO TIME LIMIT ***"
    slurm.write_text(f"Building DAG of jobs...\n{limit}\nsrun: error: b: task 0: Killed\n")
    assert reason_in_log([str(own), str(slurm)]) == limit
    own.write_text("12:00:01 stopped at step 4; the state is saved and the next run goes on from it\n")
    slurm.write_text("Building DAG of jobs...\nsrun: error: b: task 0: Exited with exit code 1\nWorkflowError:\n")
    assert "stopped at step 4" in reason_in_log([str(own), str(slurm)])


def test_the_estimate_weighs_rules_by_their_own_durations() -> None:
    estimate = Estimate()
    estimate.left.update({"finetune": 6, "spectra": 6})
    for _ in range(2):
        estimate.finished("finetune", 30.0)
        estimate.finished("spectra", 2.0)
    assert estimate.remaining(elapsed=32.0) == (4 * 30 + 4 * 2) / 2


def test_clock() -> None:
    assert [clock(s) for s in (5, 65, 3700)] == ["0:05", "1:05", "1:01:40"]
