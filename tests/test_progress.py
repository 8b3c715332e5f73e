"""The progress lines and the estimate of what remains."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_progress import Estimate, LogHandler, clock, reason_in_log


@pytest.fixture
def handler() -> LogHandler:
    return LogHandler(SimpleNamespace(stdout=True, dryrun=False, printshellcmds=False), None)


def tell(handler: LogHandler, event: LogEvent | None = None, message: str = "", **facts: object) -> None:
    """Let the handler hear of an event as Snakemake tells it."""
    told = {"levelno": logging.ERROR if message else logging.INFO, "msg": message, "event": event, **facts}
    handler.handle_event(logging.makeLogRecord(told))


def test_a_job_is_called_as_its_message_says(handler: LogHandler, capsys: pytest.CaptureFixture) -> None:
    handler.common_settings.dryrun = True
    told = "finetune mlp/dropout-0.3, seeds 0-7"
    tell(handler, LogEvent.JOB_INFO, jobid=1, rule_name="finetune", rule_msg=told, wildcards={}, reason="Missing: x")
    tell(handler, LogEvent.JOB_INFO, jobid=2, rule_name="compare", rule_msg=None, wildcards={}, reason="Missing: x")
    assert capsys.readouterr().out.splitlines() == [f"would run {told}: missing", "would run compare: missing"]


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


def test_a_failed_job_has_one_line(handler: LogHandler, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = tmp_path / "log"
    log.write_text("error: seed 0: the loss is nan\n")
    tell(handler, LogEvent.RUN_INFO, stats={"finetune": 2, "total": 2})
    tell(handler, LogEvent.JOB_INFO, jobid=1, rule_name="finetune", rule_msg="finetune mlp/x, seeds 0-1")
    command = (
        "RuleException:\nCalledProcessError in file \"f.smk\", line 3:\nCommand '...' returned non-zero exit status 2."
    )
    tell(handler, LogEvent.ERROR, command)
    for _ in range(2):  # a cluster tries again
        tell(handler, LogEvent.JOB_ERROR, jobid=1, rule_name="finetune", log=[str(log)])
    tell(handler, message="Exiting because a job execution failed. Look above for error messages")
    tell(handler, LogEvent.ERROR, "MissingOutputException in rule x: no file")
    tell(handler, LogEvent.ERROR, "WorkflowError:\nAt least one job did not complete successfully.")
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"FAILED finetune mlp/x, seeds 0-1: error: seed 0: the loss is nan (log: {log})",
        "MissingOutputException in rule x: no file",
        "of 2 jobs 1 failed; in full: .snakemake/log",
    ]


def test_a_job_that_was_told_to_stop_did_not_fail(
    handler: LogHandler, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tell(handler, LogEvent.RUN_INFO, stats={"finetune": 1, "spectra": 1, "total": 2})
    said = {"finetune": "14:32:50 stopped at step 772; the state is saved and the next run goes on from it"}
    for jobid, stage in enumerate(("finetune", "spectra")):
        log = tmp_path / stage
        log.write_text(said.get(stage, "stopped") + "\n")
        tell(handler, LogEvent.JOB_INFO, jobid=jobid, rule_name=stage, rule_msg=f"{stage} mlp/x, seeds 0-1")
        tell(handler, LogEvent.JOB_ERROR, jobid=jobid, rule_name=stage, log=[str(log)])
    tell(handler, LogEvent.ERROR, "WorkflowError:\nAt least one job did not complete successfully.")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "stopped finetune mlp/x, seeds 0-1: at step 772; the state is saved and the next run goes on from it",
        "stopped spectra mlp/x, seeds 0-1",
        "of 2 jobs 2 stopped; in full: .snakemake/log",
    ]


def test_a_job_that_is_tried_again_is_told_anew(
    handler: LogHandler, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    log = tmp_path / "log"
    tell(handler, LogEvent.RUN_INFO, stats={"compare": 1, "total": 1})
    for said in ("12:00:00 stopped at step 7; saved", "error: no room", "error: no room"):
        log.write_text(said)
        tell(handler, LogEvent.JOB_INFO, jobid=0, rule_name="compare", wildcards={})
        tell(handler, LogEvent.JOB_ERROR, jobid=0, rule_name="compare", log=[str(log)])
    told = ["stopped compare: at step 7; saved", f"FAILED compare: error: no room (log: {log})"]
    assert capsys.readouterr().out.splitlines()[1:] == told
    tell(handler, LogEvent.JOB_FINISHED, job_id=0)
    assert not handler.ended


def test_every_job_is_counted_and_the_target_is_none(handler: LogHandler, capsys: pytest.CaptureFixture) -> None:
    tell(handler, LogEvent.RUN_INFO, stats={"all": 1, "gather": 1, "compare": 1, "total": 3})
    for jobid, rule in enumerate(("gather", "compare", "all")):
        tell(handler, LogEvent.JOB_INFO, jobid=jobid, rule_name=rule, wildcards={})
        tell(handler, LogEvent.JOB_FINISHED, job_id=jobid)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 jobs: 1 gather, 1 compare"
    assert [line.split()[0] for line in lines[1:]] == ["1/2", "2/2"]
