"""What the steps of a plan will take: time and room on the disk, from the rates of past runs, or those shipped."""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra.planning.machine import cpu
from diversity_spectra.planning.rates import Key, Rates
from diversity_spectra.planning.steps import Step
from diversity_spectra.work import Sets, Work

NETWORKS = ("generator", "pretrained", "finetune")  # a network is as large however long it is trained


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of what a step has to do, and on what. None where no rate tells; `why` says what lacks.

    shipped: the seconds are by a rate of another machine.
    """

    step: Step
    device: str
    on_gpu: bool
    work: Work
    seconds: float | None
    bytes: float | None
    why: str = ""
    shipped: bool = False


def estimates(steps: list[Step], rates: Rates, gpu: str | None, threads: int) -> list[Estimate]:
    """One estimate per step: on the GPU of that name where there is one, with so many threads on the CPU."""
    sets = Sets({step.job.out: step.job for step in steps})
    return [_estimate(step, rates, sets, gpu, threads) for step in steps]


def _estimate(step: Step, rates: Rates, sets: Sets, gpu: str | None, threads: int) -> Estimate:
    job, results = step.job, len(step.open)
    on_gpu = gpu is not None and job.takes_device()
    device = gpu if on_gpu else cpu(threads if job.threaded else 1)
    work = job.work(sets, results)
    if not results:
        return Estimate(step, device, on_gpu, work, 0.0, 0.0)
    if work.units is None:
        why = "the number of images is known once stage data has run"
        return Estimate(step, device, on_gpu, work, None, None, why)
    rate, room = rates.get(Key(job.kind, work.kind, device)), _room(step, work, rates)
    if rate is None:
        return Estimate(step, device, on_gpu, work, None, room, f"no run of {work.kind} yet")
    return Estimate(step, device, on_gpu, work, rate.predict(work.units), room, shipped=rate.shipped)


def _room(step: Step, work: Work, rates: Rates) -> float | None:
    """Bytes on the disk: exact for images, else as past results of this kind on whatever device."""
    if work.size is not None:
        return work.size
    past = [rate for key, rate in rates.items() if (key.stage, key.kind) == (step.job.kind, work.kind)]
    if not past:
        return None
    if step.job.kind in NETWORKS:
        return past[0].bytes * past[0].units * len(step.open)
    return past[0].bytes * work.units
