"""What the steps of a plan will take: time and room on the disk, from the rates of past runs."""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra.costs.calibration import Entry, Key, Rates
from diversity_spectra.costs.machine import cpu
from diversity_spectra.costs.sizes import Sets
from diversity_spectra.costs.work import THREADED, Work, takes_device, work
from diversity_spectra.planning.graph import Step

MUCH_LARGER = 10


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of what a step has to do, and on what. None where no past run tells; `why` says what lacks.

    `at_most`: past jobs were so much smaller that their start-up counts in the rate.
    """

    stage: str
    device: str
    on_gpu: bool
    work: Work
    seconds: float | None
    bytes: float | None
    why: str = ""
    at_most: bool = False


def estimates(steps: list[Step], rates: Rates, gpu: str | None, threads: int) -> list[Estimate]:
    """One estimate per step: on the GPU of that name where there is one, with so many threads on the CPU."""
    sets = Sets({step.job.out: step.job.spec for step in steps})
    return [_estimate(step, rates, sets, gpu, threads) for step in steps]


def _estimate(step: Step, rates: Rates, sets: Sets, gpu: str | None, threads: int) -> Estimate:
    spec, stage = step.job.spec, step.job.stage
    on_gpu = gpu is not None and takes_device(spec)
    device = gpu if on_gpu else cpu(threads if stage in THREADED else 1)
    done = work(spec, step.open, sets)
    if not step.open:
        return Estimate(stage, device, on_gpu, done, 0.0, 0.0)
    if done.units is None:
        return Estimate(
            stage, device, on_gpu, done, None, None, "the number of images is known once stage data has run"
        )
    entry = rates.get(Key(stage, done.kind, device))
    seconds = entry.predict(done.units) if entry else None
    why = "" if entry else f"no run of {done.kind} yet"
    at_most = entry is not None and done.units > MUCH_LARGER * entry.units / max(1, entry.jobs)
    return Estimate(stage, device, on_gpu, done, seconds, _room(done, step, rates), why, at_most)


def _room(done: Work, step: Step, rates: Rates) -> float | None:
    """Bytes on the disk: exact for images, else as past results of this kind on whatever device."""
    if done.size is not None:
        return done.size
    past = [entry for key, entry in rates.items() if (key.stage, key.kind) == (step.job.stage, done.kind)]
    total = sum(past, Entry())
    if not total.results:
        return None
    if step.job.stage in ("generator", "pretrained", "finetune"):  # a network is as large however long it is trained
        return total.bytes / total.results * step.open
    return total.bytes / total.units * done.units
