"""The progress lines and the estimate of what remains."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_progress
from diversity_spectra.cli import main
from diversity_spectra.config.experiments import load
from diversity_spectra.planning import status
from diversity_spectra.planning.forecast import Forecast, Task
from diversity_spectra.planning.steps import Work
from snakemake_logger_plugin_progress import LogHandler, clock, reason_in_log


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


DEFAULT_RUN = json.loads((Path(__file__).parent / "default_run.json").read_text())


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0], ids=lambda scale: f"rates of a machine {scale:g} times as slow")
def test_the_time_that_is_left_can_be_believed(scale: float) -> None:
    """A default run of 22 minutes on 2 cores, line by line: after the first minute four of five estimates are within 25 %."""
    names = [row["name"] for row in DEFAULT_RUN]
    told = Forecast(
        Task(row["name"], tuple(row["kind"]), row["predicted"] * scale, tuple(names[need] for need in row["needs"]))
        for row in DEFAULT_RUN
    )
    events = [(row["end"] - row["seconds"], 1, row["name"]) for row in DEFAULT_RUN]
    events += [(row["end"], 0, row["name"]) for row in DEFAULT_RUN]
    end, ratios = max(row["end"] for row in DEFAULT_RUN), []
    for now, starts, name in sorted(events):
        if starts:
            told.started(name, now)
            continue
        told.finished(name, now)
        if 60 <= now < end:
            ratios.append(told.remaining(now) / (end - now))
    assert len(ratios) > 120 and max(ratios) < 2 and min(ratios) > 0.5
    assert sum(abs(ratio - 1) <= 0.25 for ratio in ratios) >= 0.8 * len(ratios)


def test_what_runs_counts_and_late_jobs_have_something_left() -> None:
    told = Forecast([Task("a", ("x", ""), 10.0), Task("b", ("x", ""), 10.0), Task("c", ("y", ""), 4.0, ("a", "b"))])
    told.started("a", 0.0)
    told.started("b", 0.0)
    assert told.remaining(1.0) == pytest.approx(9 + 9 + 4)  # one at a time, as far as it has seen
    assert told.remaining(6.0) == pytest.approx(4 + 4)
    told.finished("a", 20.0)  # twice as slow as thought
    assert told.slots == 2
    overall = (20 + 5) / (10 + 5)  # the prediction counts as half a job
    own = (20 + 5 * overall) / (10 + 5)
    assert told.remaining(20.0) == pytest.approx(0.15 * 10 * own + 4 * overall)
    told.failed("b")
    assert told.remaining(20.0) == pytest.approx(10 * own + 4 * overall)


def test_the_pulse_says_how_far_a_job_is(handler: LogHandler, tmp_path: Path, monkeypatch, capsys) -> None:
    log = tmp_path / "log"
    log.write_text("12:00:00 step 60 of 1200, loss 2.1\n12:00:09 step 420 of 1200, loss 0.4, accuracy 0.9\n")
    tell(handler, LogEvent.RUN_INFO, stats={"finetune": 2, "total": 2})
    tell(
        handler, LogEvent.JOB_INFO, jobid=1, rule_name="finetune", rule_msg="finetune mlp/x, seeds 0-1", log=[str(log)]
    )
    start = handler.running[1]
    assert handler.pulse(start + 80) == "running: finetune mlp/x, seeds 0-1 (1:20, step 420 of 1200)"
    # The thread says it once nothing was said for that long.
    monkeypatch.setattr(snakemake_logger_plugin_progress, "PULSE", 0.01)
    thread = threading.Thread(target=handler.beat, daemon=True)
    thread.start()
    time.sleep(0.1)
    handler.close()
    thread.join(5)
    assert "running: finetune mlp/x, seeds 0-1 (0:0" in capsys.readouterr().out


def test_the_pulse_waits_while_an_event_is_heard(handler: LogHandler, monkeypatch, capsys) -> None:
    """It reads what the thread that hears of events changes, under the lock that logging takes for each of them."""
    tell(handler, LogEvent.RUN_INFO, stats={"finetune": 2, "total": 2})
    tell(handler, LogEvent.JOB_INFO, jobid=1, rule_name="finetune", rule_msg="finetune mlp/x, seeds 0-1")
    monkeypatch.setattr(snakemake_logger_plugin_progress, "PULSE", 0.01)
    thread = threading.Thread(target=handler.beat, daemon=True)
    with handler.lock:
        thread.start()
        time.sleep(0.1)
        assert "running: " not in capsys.readouterr().out
    time.sleep(0.1)
    handler.close()
    thread.join(5)
    assert "running: " in capsys.readouterr().out


def test_of_hundreds_of_jobs_a_few_are_named(handler: LogHandler, capsys: pytest.CaptureFixture) -> None:
    tell(handler, LogEvent.RUN_INFO, stats={"finetune": 200, "total": 200})
    for jobid in range(200):
        tell(handler, LogEvent.JOB_INFO, jobid=jobid, rule_name="finetune", rule_msg=f"finetune {jobid}", log=[])
    tell(handler, LogEvent.JOB_FINISHED, job_id=1)
    told = "running: finetune 0; finetune 2; finetune 3; finetune 4; 195 more"
    assert capsys.readouterr().out.splitlines()[-1].endswith(f" | {told}")


def test_whatever_is_said_after_it_a_job_that_was_stopped_did_not_fail(
    handler: LogHandler, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    log = tmp_path / "log"
    tell(handler, LogEvent.RUN_INFO, stats={"shard": 3, "total": 3})
    for jobid, text in enumerate(
        ("stopped\ncache_misses: 0\n", "Traceback\n  import torch\nKeyboardInterrupt\n", "x\n")
    ):
        log.write_text(text)
        if text == "x\n":
            tell(handler, message="Terminating processes on user request, this might take some time.")
        tell(handler, LogEvent.JOB_INFO, jobid=jobid, rule_name="shard", rule_msg=f"shard {jobid}")
        tell(handler, LogEvent.JOB_ERROR, jobid=jobid, rule_name="shard", log=[str(log)])
    told = [line for line in capsys.readouterr().out.splitlines()[1:] if not line.startswith("Terminating")]
    assert told == ["stopped shard 0", "stopped shard 1", "stopped shard 2"]


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
    told = ["1 job: 1 compare", "stopped compare: at step 7; saved", f"FAILED compare: error: no room (log: {log})"]
    assert capsys.readouterr().out.splitlines() == told
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


def test_status_says_what_is_done_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Nothing is there yet; one training has written to its log, and a workflow holds its claim."""
    monkeypatch.chdir(tmp_path)
    config = str(Path(__file__).parent / "configs/tiny.yaml")
    assert main(["status", "--configfile", config]) == 0
    told = capsys.readouterr().out
    assert re.search(r"tiny: 48 of 49 jobs left\n  data +4 of 5\n", told), told
    assert "no workflow is at work" in told.splitlines()[-1] and "about" in told.splitlines()[-1]
    assert not list(tmp_path.iterdir()), "asking writes nothing"
    step = next(step for step in Work(load(config)).steps if step.job.kind == "finetune")
    log = tmp_path / "logs/finetune" / ("/seed-".join(step.wildcards) + ".log")
    log.parent.mkdir(parents=True)
    log.write_text("12:00:00 step 30 of 60, loss 1.0\n")
    monkeypatch.setattr(status, "at_work", lambda: [{"experiment": "tiny", "process": 7, "results": []}])
    main(["status", "--configfile", config])
    assert f"  {step.told}: step 30 of 60, last wrote " in capsys.readouterr().out
