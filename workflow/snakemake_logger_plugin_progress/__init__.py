"""`snakemake --logger progress`: one line per finished job, with what is running and an estimate of what remains.

A job is called as its rule's message says. A failed job is named by stage, model, condition and seeds, with the reason from
its log in one line. What Snakemake itself says of it, with the whole command, stands in .snakemake/log.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from logging import WARNING, LogRecord
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

EARLY = 30.0  # seconds: until then nothing is said of what is left
TARGET = "all"  # the rule that asks for everything and does nothing
# What a stage says; what SLURM says of a job that it ended; what kept srun from starting it.
REASONS = [re.compile(text) for text in (r"error:", r"slurmstepd\S*: error:", r"srun: (error|fatal): (?!\S+: task)")]

# What Snakemake says of a failed job beside the event that it failed: its command, and each file that it did not write.
REPEATED = ("RuleException:\nCalledProcessError ", "Cannot restore ", "Exiting because a job execution failed")
INTERRUPTED = "Terminating processes on user request"
SOME_FAILED = "At least one job did not complete successfully."

# The last word of a job that was told to stop; libraries may add some of their own, or be stopped while they are loaded.
STOPPED = re.compile(r"(?:[\d:]{8} )?(?:stopped|KeyboardInterrupt) ?(.*)")
LAST = 10  # lines of a log in which that word may stand
PULSE = 60.0  # seconds after which it is said what goes on, where nothing has finished
SHOWN = 4  # running jobs that are named in a line; on a cluster hundreds may run
STEP = re.compile(r"(?:[\d:]{8} )?((?:step )?\d+ of \d+(?: images)?)")


def reason_in_log(paths: list[str]) -> str:
    """The line in a job's logs that says what went wrong, its own word before SLURM's, or the last line of the first."""
    logs = [lines for path in paths if (lines := _lines(Path(str(path).split(" ")[0])))]
    for reason in REASONS:
        if found := [line for lines in logs for line in lines if reason.match(line)]:
            return found[-1]
    if stopped := [line for lines in logs for line in lines[-LAST:] if STOPPED.fullmatch(line)]:
        return stopped[-1]
    return logs[0][-1] if logs else "it left no message; was it killed (out of memory)?"


def _lines(path: Path) -> list[str]:
    """The lines of a log that are not empty; none if it cannot be read."""
    try:
        return [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return []


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def forecast() -> object | None:
    """What the plan of this very workflow expects of its jobs; none where another Snakefile is run."""
    return getattr(sys.modules.get("diversity_spectra.planning.forecast"), "current", None)


class LogHandler(LogHandlerBase):
    """Receives Snakemake's events and prints lines; needs no terminal, so a log of it reads the same."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        self.left: Counter[str] = Counter()
        self.logs: dict[int, list[str]] = {}
        self.forecast, self.interrupted, self.said = None, False, self.start
        self.ending = threading.Event()
        threading.Thread(target=self.beat, daemon=True).start()
        self.names: dict[int, tuple[str, str]] = {}
        self.running: dict[int, float] = {}
        self.ended: dict[str, str] = {}
        self.done, self.total = 0, 0

    def emit(self, record: LogRecord) -> None:
        try:
            self.handle_event(record)
        except Exception:
            self.handleError(record)

    def handle_event(self, record: LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.plan(record.stats)
        elif event == LogEvent.JOB_INFO:
            self.announce(record)
        elif event == LogEvent.SHELLCMD and self.common_settings.printshellcmds and getattr(record, "shellcmd", None):
            self.say(record.shellcmd)
        elif event == LogEvent.JOB_FINISHED:
            self.finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self.fail(record)
        elif event == LogEvent.ERROR or (event is None and record.levelno >= WARNING):
            self.complain(record.getMessage())
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            self.say("Nothing to be done: every result is there and up to date.")

    def complain(self, message: str) -> None:
        if message.endswith(SOME_FAILED):
            counts = Counter(self.ended.values()) or {"failed": "some"}
            ended = ", ".join(f"{count} {how}" for how, count in counts.items())
            self.say(f"of {self.total} jobs {ended}; in full: .snakemake/log")
        elif message.startswith(INTERRUPTED):
            self.interrupted = True
            self.say(message)
        elif not message.startswith(REPEATED):
            self.say(message)

    def plan(self, stats: dict) -> None:
        if self.total:  # a dry run tells it again at its end
            return
        for rule, count in stats.items():
            if rule not in ("total", TARGET):
                self.left[rule] += count
        self.total = sum(self.left.values())
        self.forecast = forecast()
        jobs = ", ".join(f"{count} {stage}" for stage, count in self.left.items())
        self.say(f"{self.total} job{'s' * (self.total != 1)}: {jobs}")

    def announce(self, record: LogRecord) -> None:
        if record.rule_name == TARGET:
            return
        # The message of a rule says in words which job it is: `finetune mlp/dropout-0.3, seeds 0-7`.
        name = getattr(record, "rule_msg", None) or record.rule_name
        self.names[record.jobid] = (name, record.rule_name)
        self.running[record.jobid] = time.monotonic()
        self.logs[record.jobid] = [str(path) for path in getattr(record, "log", None) or []]
        if self.forecast:
            self.forecast.started(name, time.monotonic())
        if self.common_settings.dryrun:
            self.say(f"would run {name}: {str(record.reason).split(':')[0].lower()}")

    def finish(self, jobid: int) -> None:
        if jobid not in self.names:
            return
        name, _ = self.names[jobid]
        self.ended.pop(name, None)
        now = time.monotonic()
        seconds = now - self.running.pop(jobid, now)
        self.done += 1
        if self.forecast:
            self.forecast.finished(name, now)
        parts = [f"{name}: {clock(seconds)}"]
        if self.running:
            parts.append(self.told(lambda jobid: self.names[jobid][0]))
        self.say(self.line(parts, now))

    def line(self, parts: list[str], now: float) -> str:
        """How many are done, the time since the start, and the parts with what is left."""
        if self.forecast and now - self.start >= EARLY and self.done < self.total:
            parts = [*parts, f"about {clock(self.forecast.remaining(now))} left"]
        return f"{self.done:>{len(str(self.total))}}/{self.total}  {clock(now - self.start)}  " + " | ".join(parts)

    def beat(self) -> None:
        """Whenever nothing was said for a while, say what runs and how far it is by its own log."""
        while not self.ending.wait(PULSE / 4):
            with self.lock:  # which logging holds while an event is heard, in another thread
                now = time.monotonic()
                if self.running and self.total and not self.common_settings.dryrun and now - self.said >= PULSE:
                    self.say(self.line([self.pulse(now)], now))

    def pulse(self, now: float) -> str:
        """`running: finetune mlp/baseline, seeds 0-7 (1:20, step 400 of 1200)`."""

        def far(jobid: int) -> str:
            lines = [line for path in self.logs.get(jobid, ()) for line in _lines(Path(path))]
            steps = [found[1] for line in lines if (found := STEP.match(line))]
            spent = clock(now - self.running.get(jobid, now))
            return f"{self.names[jobid][0]} ({', '.join([spent, *steps[-1:]])})"

        return self.told(far)

    def told(self, one: Callable[[int], str]) -> str:
        """The jobs that have been running for longest, each in the words of `one`, and how many more there are."""
        jobs = list(self.running)
        more = [f"{len(jobs) - SHOWN} more"] if len(jobs) > SHOWN else []
        return "running: " + "; ".join([*map(one, jobs[:SHOWN]), *more])

    def close(self) -> None:
        self.ending.set()
        super().close()

    def fail(self, record: LogRecord) -> None:
        name, _ = self.names.get(record.jobid, (record.rule_name, ""))
        self.running.pop(record.jobid, None)
        if self.forecast:
            self.forecast.failed(name)
        logs = [str(path) for path in record.log or []]
        reason = reason_in_log(logs)
        stopped = STOPPED.fullmatch(reason)
        how = "stopped" if stopped or self.interrupted else "failed"
        if self.ended.get(name) == how:
            return
        self.ended[name] = how
        if how == "stopped":
            self.say(f"stopped {name}: {stopped[1] if stopped else ''}".removesuffix(": "))
            return
        where = f" (log: {', '.join(path.split(' ')[0] for path in logs)})" if logs else ""
        self.say(f"FAILED {name}: {reason}{where}")

    def say(self, text: str) -> None:
        self.said = time.monotonic()
        print(text, file=sys.stdout if self.common_settings.stdout else sys.stderr, flush=True)
