"""The bill of a plan: per stage the work, room on the disk and time of what is to do, then warnings and wall time."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.planning.estimate import Estimate, estimates
from diversity_spectra.planning.machine import cpu, gpus
from diversity_spectra.planning.rates import Rates
from diversity_spectra.planning.schedule import Schedule, longest_chain, schedule
from diversity_spectra.planning.steps import Work
from diversity_spectra.spectra.progress import processors
from diversity_spectra.stages import kinds

CHECKOUT = Path(__file__).parents[3]
DEFAULT_MINUTES = 60  # `runtime` of workflow/profiles/slurm
CORES_PER_GPU = 8  # for the work on the CPU, where wall time is asked for another machine than this one


def bill(plan: Work, rates: Rates, on: str | None = None, devices: Sequence[int] = ()) -> list[str]:
    """The table, its totals and warnings, and the wall time on so many `devices`, or on what is here."""
    execution = plan.experiments.execution
    found = gpus()
    gpu = choose_gpu(on, execution.device, found, {key.device for key in rates})
    costs = estimates(plan.steps, rates, gpu, execution.threads)
    to_do = [cost for cost in costs if cost.step.open]
    if not to_do:
        return [*_table(costs), "", "nothing to do: every result is there"]
    on_what = " and ".join(filter(None, [gpu, cpu(execution.threads)]))
    lines = [f"still to do, by the rates of {on_what}:", "", *_table(costs), ""]
    sizes = [cost.bytes for cost in to_do]
    lines.append(disk(sum(filter(None, sizes)), room(), at_least=None in sizes))
    lines += too_long(to_do)
    if shipped := sum(cost.shipped for cost in to_do):
        lines.append(
            f"of {shipped} jobs the time is by the rates shipped with the package, of another machine; a first run measures yours"
        )
    if missing := [estimate for estimate in to_do if estimate.seconds is None]:
        return [
            *lines,
            f"wall time: unknown, as are the times of {len(missing)} jobs; a first run of a kind measures it",
        ]
    if devices:
        return [*lines, *_scaling(to_do, gpu, execution.threads, devices)]
    cores = processors()
    slots = {"cpu": max(1, cores // execution.threads), "gpu": len(found)} if gpu is None or found else None
    if slots is None:
        return [*lines, "wall time: add --devices 1,2,4"]
    here = f"{len(found)} x {gpu} and {cores} cores" if gpu else f"{cores} cores"
    return [*lines, f"wall time here ({here}): about {duration(_scheduled(to_do, slots).wall)}"]


def choose_gpu(on: str | None, device: str, found: Sequence[str], known: set[str]) -> str | None:
    """The GPU to estimate for, or None for the CPU: the one asked for, else what `execution.device` means here.

    found: GPUs of this machine; known: devices with rates. Raises `UserError` if none is called as asked.
    """
    elsewhere = sorted(name for name in known if not name.startswith("cpu"))
    if on is not None:
        names = [*found, *elsewhere]
        matching = [name for name in names if on.lower() in name.lower()]
        if on != "cpu" and not matching:
            raise UserError(
                f"--on {on}: no such device here, in finished jobs or in --rates; known: {', '.join(['cpu', *names])}"
            )
        return None if on == "cpu" else matching[0]
    if device == "cpu":
        return None
    if found:
        return found[0]
    # A login node has no GPU, but the configuration says that there will be one.
    return next(iter(elsewhere), "an unknown GPU") if device.startswith("cuda") else None


def disk(needed: float, free: float, at_least: bool) -> str:
    """One line, a warning if the room is too small."""
    warning = "WARNING: " if needed > free else ""
    return f"{warning}disk: {'at least ' if at_least else ''}{size(needed)} needed, {size(free)} free"


def too_long(to_do: Sequence[Estimate]) -> list[str]:
    """One line for each kind of job of which some take longer than a cluster gives them at first."""
    lines = []
    for kind in dict.fromkeys(estimate.step.job.kind for estimate in to_do):
        over = [cost for cost in to_do if cost.step.job.kind == kind and (cost.seconds or 0) > 60 * minutes(kind)]
        if over:
            longest = max(over, key=lambda cost: cost.seconds)
            lines.append(
                f"WARNING: jobs of {kind} ({len(over)}) take longer than a cluster gives them at first,"
                f" {longest.step.job.name} {duration(longest.seconds)} of {duration(60 * minutes(kind))}: in the profile,"
                f" set-resources: [{kind}:runtime={round(1.5 * longest.seconds / 60)}]"
            )
    return lines


@cache
def minutes(kind: str) -> int:
    """Time limit of a rule's first attempt on a cluster, from the rule or else the profile's default."""
    rules = "\n".join(path.read_text() for path in sorted((CHECKOUT / "workflow/rules").glob("*.smk")))
    body = re.search(rf"^rule {kind}:\n(.*?)(?=^\S|\Z)", rules, re.MULTILINE | re.DOTALL)
    own = body and re.search(r"runtime=(?:grown\()?(\d+)", body[1])
    return int(own[1]) if own else DEFAULT_MINUTES


def room() -> int:
    """Bytes free where results are kept."""
    return shutil.disk_usage("results" if Path("results").is_dir() else ".").free


# ---------------------------------------------------------------- the table


def _table(costs: list[Estimate]) -> list[str]:
    lines = [f"{'stage':<12}{'jobs':>6}{'to do':>7}  {'work':<22}{'disk':<13}time"]
    present = {cost.step.job.kind for cost in costs}
    for stage in (kind for kind in kinds() if kind in present):
        mine = [cost for cost in costs if cost.step.job.kind == stage]
        to_do = [cost for cost in mine if cost.step.open]
        cells = f"{_work(to_do):<22}{_disk(to_do):<13}{_time(to_do)}" if to_do else ""
        lines.append(f"{stage:<12}{len(mine):>6}{len(to_do):>7}  {cells}".rstrip())
    to_do = [cost for cost in costs if cost.step.open]
    if to_do:
        lines.append(f"{'total':<12}{len(costs):>6}{len(to_do):>7}  {'':<22}{_disk(to_do):<13}{_totals(to_do)}")
    return lines


def _work(to_do: list[Estimate]) -> str:
    units = [estimate.work.units for estimate in to_do]
    known = [value for value in units if value is not None]
    unit = to_do[0].work.unit
    return f"{count(sum(known))}{' + ?' if len(known) < len(units) else ''} {unit[:-1] if sum(known) == 1 else unit}"


def _disk(to_do: list[Estimate]) -> str:
    known = [estimate.bytes for estimate in to_do if estimate.bytes is not None]
    if not known:
        return "?"
    return size(sum(known)) + (" + ?" if len(known) < len(to_do) else "")


def _time(to_do: list[Estimate]) -> str:
    known = [estimate.seconds for estimate in to_do if estimate.seconds is not None]
    reasons = list(dict.fromkeys(estimate.why for estimate in to_do if estimate.why))
    more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    unknown = [f"unknown: {reasons[0]}{more}"] if reasons else []
    return " + ".join([duration(sum(known))] * bool(known) + unknown)


def _totals(to_do: list[Estimate]) -> str:
    parts = []
    for name, on_gpu in (("GPU", True), ("CPU", False)):
        mine = [estimate for estimate in to_do if estimate.on_gpu is on_gpu]
        known = [estimate.seconds for estimate in mine if estimate.seconds is not None]
        if mine:
            spent = f"{duration(sum(known))} of {name}" if known else f"{name} unknown"
            parts.append(spent + (" + unknown" if known and len(known) < len(mine) else ""))
    return ", ".join(parts)


# ---------------------------------------------------------------- wall time


def _scaling(to_do: list[Estimate], gpu: str | None, threads: int, devices: Sequence[int]) -> list[str]:
    """Wall time against the number of devices, and the chain that no number of them can shorten."""
    what = f"{gpu}, each with {CORES_PER_GPU} cores" if gpu else f"processes of {threads} thread(s)"
    lines = [f"wall time on N {what}:", "", f"{'N':>6}{'wall time':>14}{'speed-up':>11}{'at work':>10}"]

    def on(number: int) -> Schedule:
        beside = max(1, CORES_PER_GPU * number // threads)
        return _scheduled(to_do, {"gpu": number, "cpu": beside} if gpu else {"gpu": 0, "cpu": number})

    alone = on(1).wall
    for number in devices:
        made = on(number)
        share = made.busy["gpu" if gpu else "cpu"] / (number * made.wall)
        lines.append(f"{number:>6}{duration(made.wall):>14}{alone / made.wall:>11.1f}{share:>10.0%}")
    return [*lines, "", *_chain(to_do)]


def _scheduled(to_do: list[Estimate], slots: dict[str, int]) -> Schedule:
    seconds, pools = [cost.seconds for cost in to_do], ["gpu" if cost.on_gpu else "cpu" for cost in to_do]
    return schedule(_needs(to_do), seconds, pools, slots)


def _chain(to_do: list[Estimate]) -> list[str]:
    chain = [to_do[index] for index in longest_chain(_needs(to_do), [cost.seconds for cost in to_do])]
    total = sum(cost.seconds for cost in chain)
    lines = [f"the longest chain takes {duration(total)} on any number of devices:"]
    for cost in chain:
        runs = f", {len(cost.step.open)} runs" if len(cost.step.results) > 1 else ""
        lines.append(f"  {duration(cost.seconds):>9}  {cost.step.job.kind} {cost.step.job.name}{runs}")
    return lines


def _needs(to_do: list[Estimate]) -> list[list[int]]:
    """Positions of the steps that each waits for."""
    place = {id(cost.step): index for index, cost in enumerate(to_do)}
    return [[place[id(need)] for need in cost.step.needs] for cost in to_do]


# ---------------------------------------------------------------- numbers in words


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.1f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def size(room: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if room >= scale:
            return f"{room / scale:.3g} {unit}" if room < 1000 * scale else f"{room / scale:,.0f} {unit}"
    return f"{room / 1e3:.0f} kB"


def count(number: float) -> str:
    for unit, scale in ((" G", 1e9), (" M", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g}{unit}"
    return f"{number:,.0f}"
