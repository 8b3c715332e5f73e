"""The jobs of a plan as the processes that run them: what each waits for, and what is still to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from diversity_spectra.planning.union import BY_RUN, Union
from diversity_spectra.provenance import Job


@dataclass(frozen=True)
class Step:
    """One process of the workflow: a job, or a block of its seeds.

    `results` are the folders it makes, `open` how many of them are still to be made, `needs` the positions of the steps
    whose results it reads.
    """

    job: Job
    results: tuple[str, ...]
    open: int
    needs: tuple[int, ...]


def steps(made: Union) -> list[Step]:
    """All steps, stage after stage. What is missing but needed by nothing that is to do counts as done."""
    parts = _parts(made)
    maker = {folder: index for index, (_, results) in enumerate(parts) for folder in results}
    needs = [tuple(sorted({maker[folder] for folder in _read(*part) if folder in maker})) for part in parts]
    missing = [sum(not _is_there(job, folder) for folder in results) for job, results in parts]
    wanted = _wanted(parts, needs, missing)
    return [
        Step(job, results, missing[index] if index in wanted else 0, needs[index])
        for index, (job, results) in enumerate(parts)
    ]


def _parts(made: Union) -> list[tuple[Job, tuple[str, ...]]]:
    """Each process as its job and the folders of its results."""
    blocks = {getattr(runs, stage).out: runs.blocks for stage in BY_RUN for runs in made.runs[stage]}
    parts = []
    for jobs in made.jobs.values():
        for job in jobs.values():
            if job.out in blocks:
                parts += [(job, tuple(f"{job.out}/seed-{seed}" for seed in block)) for block in blocks[job.out]]
            else:
                parts.append((job, (job.out,)))
    return parts


def _read(job: Job, results: tuple[str, ...]) -> list[str]:
    """Folders of the results that a process reads."""
    if job.stage == "report":  # images and spectra that it shows are shown where they are there
        return [job.inputs["tables"]]
    if job.stage == "gather":
        return [run[stage] for run in job.settings["runs"] for stage in BY_RUN]
    folders = [path for value in job.inputs.values() for path in ([value] if isinstance(value, str) else value)]
    if job.stage == "compare":
        folders += job.settings["diversity"].values()
    if "runs" in job.inputs and job.stage in ("evaluate", "spectra"):
        folders += [f"{job.inputs['runs']}/{Path(folder).name}" for folder in results]
    return folders


def _is_there(job: Job, folder: str) -> bool:
    spec = Path(folder, "spec.json")
    if job.place is None:
        return spec.exists()
    # A fixed place may hold the result of an earlier configuration.
    try:
        return json.loads(spec.read_text())["key"] == job.key
    except (OSError, ValueError, KeyError):
        return False


def _wanted(parts: list[tuple[Job, tuple[str, ...]]], needs: list[tuple[int, ...]], missing: list[int]) -> set[int]:
    """Positions of the missing steps that tables and reports ask for, themselves or through others."""
    targets = [index for index, (job, _) in enumerate(parts) if job.place]
    wanted: set[int] = set()
    for target in targets:  # tables first, then the reports, which are made anew with them
        queue = [target] if missing[target] or wanted & {*needs[target]} else []
        while queue:
            index = queue.pop()
            if index not in wanted:
                wanted.add(index)
                queue += [need for need in needs[index] if missing[need]]
    return wanted
