"""What rules need to know of a job, kept in a file: the job, and how it is run.

The workflow that is started writes these files. A job on a cluster, and one that starts late, does what was planned then,
whatever becomes of the configuration; and a command that `snakemake -p` prints names the file, so it can be pasted.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from diversity_spectra.config import Execution
from diversity_spectra.jobs import WEIGHTS, Job, RunsJob
from diversity_spectra.planning.order import FOLDER, Order
from diversity_spectra.planning.steps import Work


def orders(work: Work) -> Callable[[str, str], Order]:
    """The orders of a plan, by kind and item; those of what is to do are written to their files."""
    execution = work.experiments.execution
    jobs = {(job.kind, job.item): job for job in work.jobs.values()}
    readers: dict[str, list[str]] = {}  # of the weights of runs
    for job in work.jobs.values():
        if isinstance(job, RunsJob) and WEIGHTS in job.of_runs:
            readers.setdefault(job.inputs["runs"], []).append(job.out)

    @cache
    def order(kind: str, item: str) -> Order:
        job = jobs[kind, item]
        runs = job.inputs.get("runs") if isinstance(job, RunsJob) else None
        others = sorted({*readers.get(runs, ())} - {job.out})
        return _order(job, work.blocks.get(job.out, ()), others, execution)

    for job in {step.job.out: step.job for step in work.to_do}.values():
        _write(job, order(job.kind, job.item))
    return order


def _order(job: Job, blocks: list[tuple[int, ...]], readers: list[str], execution: Execution) -> Order:
    gpu = int(execution.device != "cpu" and job.takes_device())
    chosen = {"--device": execution.device} if job.takes_device() else {}
    if gpu and execution.jobs_per_gpu > 1:
        chosen["--jobs-per-gpu"] = execution.jobs_per_gpu
    chosen |= job.options(execution.model_dump())
    words = [str(word) for option in chosen.items() for word in option]
    if isinstance(job, RunsJob) and WEIGHTS in job.of_runs and execution.keep_weights != "all":
        words += ["--keep-weights", execution.keep_weights, *(["--readers", *readers] if readers else [])]
    options = shlex.join(words)
    file = f"{FOLDER}/{job.kind}/{job.item}.json"
    return Order(file, options, job.cores(execution.threads), gpu, tuple(block for block in blocks if block))


def _write(job: Job, order: Order) -> None:
    path = Path(order.file)
    text = json.dumps({**job.spec, "order": asdict(order)}, sort_keys=True)
    with suppress(OSError):  # where nothing can be written nothing can be run either, and the lock says so
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}-{os.getpid()}")
            temporary.write_text(text)
            temporary.replace(path)
