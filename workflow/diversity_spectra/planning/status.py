"""`diversity-spectra status`: what of an experiment is done, what is being made now, and what is left."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from diversity_spectra.config.experiments import load
from diversity_spectra.planning import forecast
from diversity_spectra.planning.bill import duration
from diversity_spectra.planning.lock import at_work
from diversity_spectra.planning.rates import known
from diversity_spectra.planning.steps import Step, Work
from diversity_spectra.spectra.progress import processors

EPILOG = """\
example, beside a workflow that runs, or after one:
  diversity-spectra status --configfile config.yaml
"""
RECENT = 600.0  # seconds since a log was written to in which its job may still be at work
FAR = re.compile(r"((?:step )?\d+ of \d+(?: images)?)")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configfile", nargs="+", default=["config.yaml"], metavar="FILE", help="default: config.yaml")
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> None:
    print("\n".join(status(Work(load(*arguments.configfile)), time.time())))


def status(work: Work, now: float) -> Iterator[str]:
    """Lines: jobs left by stage, the workflows at work with what they write, and the time that is left."""
    open_steps = [step for step in work.steps if step.open]
    yield f"{work.experiments.name}: {len(open_steps)} of {len(work.steps)} jobs left"
    waiting = Counter(step.job.kind for step in open_steps)
    for kind, count in Counter(step.job.kind for step in work.steps).items():
        yield f"  {kind:<12}{waiting[kind]:>5} of {count}"
    makers = list(at_work())
    for maker in makers:
        yield f"at work: experiment {maker['experiment']}, process {maker['process']}"
    for step in open_steps if makers else ():
        if said := last_word(step, now):
            yield f"  {step.told}: {said}"
    if not open_steps:
        yield f"every result is there: results/{work.experiments.name}/report.html"
        return
    rates = known()
    left = forecast.Forecast(forecast.tasks(work.steps, rates))
    cores = processors()
    left.slots = max(1, cores // work.experiments.execution.threads)
    yield (
        f"about {duration(left.remaining(0.0))} left on {cores} cores, by the rates "
        f"{'shipped with the package' if all(rate.shipped for rate in rates.values()) else 'of past runs'}"
        f"{'' if makers else '; no workflow is at work: run snakemake to go on'}"
    )


def last_word(step: Step, now: float) -> str:
    """How far an open step is by its log, where that was written to of late; else nothing."""
    path = Path("logs", step.job.kind, "/seed-".join(step.wildcards) + ".log")
    with suppress(OSError):
        silent = now - path.stat().st_mtime
        if silent < RECENT:
            lines = path.read_text(errors="replace").splitlines()
            far = [found[1] for line in lines if (found := FAR.search(line))]
            return ", ".join([*far[-1:], f"last wrote {silent:.0f} s ago"])
    return ""
