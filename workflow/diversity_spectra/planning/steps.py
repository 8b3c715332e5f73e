"""Everything that a file asks for, as processes: which there are, what each waits for, and what is still to do.

The plans of all experiments are one: equal jobs are the same job, and are done once. What is there is read off the records
of results, and off nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diversity_spectra.config import Config
from diversity_spectra.config.experiments import Experiments
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import RECORD, Job, canonical, is_there
from diversity_spectra.planning.plan import Known, Plan, plan
from diversity_spectra.sweep.job import Told, WriteSweep


@dataclass(frozen=True)
class Step:
    """One process of the workflow: a job, or a block of its seeds.

    open: folders of those of its results that are still to be made. needs: the open steps that make what it reads.
    again: all of them are made anew, though they may be there.
    """

    job: Job
    seeds: tuple[int, ...] = ()
    open: tuple[str, ...] = ()
    needs: tuple[Step, ...] = ()
    again: bool = False

    @property
    def results(self) -> list[str]:
        return self.job.results(self.seeds)

    @property
    def told(self) -> str:
        """The step in words: `finetune mlp/dropout-0.3, seeds 0-7`."""
        name = f"{self.job.kind} {self.job.name}"
        if len(self.seeds) < 2:
            return ", seed ".join([name, *map(str, self.seeds)])
        return f"{name}, seeds {self.seeds[0]}-{self.seeds[-1]}"

    @property
    def target(self) -> str:
        """The file that stands for an open step: what it writes last, a record or the mark of a place."""
        return str(self.job.mark) if self.job.place else f"{self.open[-1]}/{RECORD}"

    @property
    def wildcards(self) -> tuple[str, ...]:
        """Of the rule, as the target gives them."""
        last = [Path(folder).name.removeprefix("seed-") for folder in self.open[-1:] if self.seeds]
        return (self.job.item, *last)


class Work:
    """All steps of a file with one or several experiments.

    again: kinds of jobs that are made anew with all that reads them, though their results are there.
    """

    def __init__(self, experiments: Experiments, again: Collection[str] = ()):
        self.experiments = experiments
        self.again = again
        known = Known()
        self.plans = [_plan(config, known, experiments.sweep) for config in experiments.configs]
        self.jobs: dict[str, Job] = {}  # by the folder of the result
        for made in self.plans:
            for job in made.jobs:
                self.jobs[job.out] = _one_of(self.jobs.get(job.out, job), job)
        if experiments.sweep:
            sweep = _plan_sweep(experiments, self.plans, known)
            self.jobs[sweep.out] = sweep

    @property
    def names(self) -> list[str]:
        """Of the folders in results/ that are written to."""
        experiments = [config.experiment for config in self.experiments.configs]
        return [*experiments, self.experiments.sweep] if self.experiments.sweep else experiments

    @property
    def notes(self) -> list[str]:
        """What users should know before anything runs, once each."""
        return list(dict.fromkeys(note for made in self.plans for note in made.notes))

    def of_kind(self, kind: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.kind == kind]

    @cached_property
    def blocks(self) -> dict[str, list[tuple[int, ...]]]:
        """Blocks of seeds by the folder of the job: of experiments that share it, those of the one with most seeds."""
        chosen: dict[str, list[tuple[int, ...]]] = {}
        for made in self.plans:
            for runs in (*made.runs, *made.trials):
                for job in runs.jobs:
                    if sum(map(len, chosen.get(job.out, ()))) < len(runs.seeds):
                        chosen[job.out] = runs.blocks
        return chosen

    @cached_property
    def steps(self) -> list[Step]:
        """All steps, each after those that it reads."""
        parts = [(job, block) for job in self.jobs.values() for block in self.blocks.get(job.out, [()])]
        maker = {folder: index for index, part in enumerate(parts) for folder in part[0].results(part[1])}
        opened = _Opened(parts, maker, self.again)
        steps: list[Step] = []
        for index, (job, seeds) in enumerate(parts):
            folders = tuple(folder for folder in job.results(seeds) if folder in opened.folders.get(index, ()))
            needs = sorted({maker[folder] for folder in opened.read(index, folders) if folder in maker})
            read = tuple(steps[need] for need in needs if need in opened.folders)
            steps.append(Step(job, seeds, folders, read, index in opened.again))
        return steps

    @property
    def to_do(self) -> list[Step]:
        return [step for step in self.steps if step.open]


class _Opened:
    """Which results have to be made: those that people read, and those that they need, themselves or through others.

    A result that people read lies twice, in the cache and in its place; from either it is brought back to the other.
    folders: by the position of a part those of its folders that are to be made, or laid in place.
    """

    def __init__(self, parts: list[tuple[Job, tuple[int, ...]]], maker: dict[str, int], again: Collection[str]):
        self.parts, self.maker = parts, maker
        self.folders: dict[int, set[str]] = {}
        self.again = self._again(again)
        self.known: dict[tuple, bool] = {}
        for index, (job, seeds) in enumerate(parts):
            if index in self.again or (job.place and not job.is_laid()):
                for folder in job.results(seeds):
                    self._open(index, folder)

    def read(self, index: int, folders: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """What a part reads to make these folders; nothing where the result lies in the one place or in the other."""
        job, _ = self.parts[index]
        if not folders or (
            job.place and index not in self.again and (self._there(job.place, job) or self._there(job.out, job))
        ):
            return {}
        read = job.reads(folders)
        behind = [self.parts[self.maker[folder]][0].behind() for folder in read if folder in self.maker]
        return {folder: files for made in (*behind, read) for folder, files in made.items()}

    def _open(self, index: int, folder: str) -> None:
        queue = [(index, folder)]
        while queue:
            index, folder = queue.pop()
            if folder in self.folders.setdefault(index, set()):
                continue
            self.folders[index].add(folder)
            for needed, files in self.read(index, (folder,)).items():
                at = self.maker.get(needed)
                if at is not None and (at in self.again or not self._there(needed, self.parts[at][0], files)):
                    queue.append((at, needed))

    def _there(self, folder: str, job: Job, files: tuple[str, ...] = ()) -> bool:
        if (folder, files) not in self.known:
            self.known[folder, files] = is_there(folder, job.key, files)
        return self.known[folder, files]

    def _again(self, kinds: Collection[str]) -> set[int]:
        """Positions of the parts of these kinds, and of all that read what they make."""
        found: set[int] = set()
        for index, (job, seeds) in enumerate(self.parts if kinds else ()):
            read = job.reads(tuple(job.results(seeds)))
            if job.kind in kinds or any(self.maker.get(folder) in found for folder in read):
                found.add(index)
        return found


def _one_of(one: Job, other: Job) -> Job:
    """Of equal jobs the one whose text comes first: it downloads nothing if either must not, and fails before it records."""
    return min(one, other, key=lambda job: canonical(job.spec)) if one is not other else one


def _plan(config: Config, known: Known, sweep: str | None) -> Plan:
    try:
        return plan(config, known)
    except UserError as error:
        raise UserError(f"experiments.{config.experiment}: {error}" if sweep else str(error)) from None


def _plan_sweep(experiments: Experiments, plans: list[Plan], known: Known) -> WriteSweep:
    compared = [made.of_kind("compare")[0] for made in plans]
    told = [
        Told(
            experiment=made.config.experiment,
            level=made.config.compare.level,
            data=made.config.data.model_dump(mode="json"),
            generator=made.config.generator.kind if made.config.generator else "",
            models={model.name: [model.architecture, model.weights] for model in made.config.models},
        )
        for made in plans
    ]
    job = WriteSweep(
        name=experiments.sweep, look=experiments.look, sweep=experiments.sweep, experiments=told,
        tables=[job.out for job in compared],
    )  # fmt: skip
    return known.with_origins(job, plans[0].config.packages, "report")
