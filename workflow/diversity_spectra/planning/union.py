"""The plans of all experiments as one: equal jobs are the same job, and are done once."""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra.errors import UserError
from diversity_spectra.planning.experiments import Experiments
from diversity_spectra.planning.plan import Plan, Runs, plan, with_fingerprint
from diversity_spectra.provenance import Job, code_digest

BY_RUN = ("finetune", "evaluate", "spectra")


@dataclass(frozen=True)
class Union:
    """jobs: by stage and item. runs: by stage that works by run, those of each of its jobs."""

    experiments: Experiments
    plans: tuple[Plan, ...]
    jobs: dict[str, dict[str, Job]]
    runs: dict[str, list[Runs]]

    def job(self, stage: str, item: str) -> Job:
        return self.jobs[stage][item]

    def named(self, stage: str) -> dict[str, Job]:
        """The jobs of a stage by their names, where these tell them apart."""
        return {job.name: job for job in self.jobs.get(stage, {}).values()}

    @property
    def names(self) -> set[str]:
        """Items of all jobs, and the experiments: what tells one job of a rule from another."""
        return {item for jobs in self.jobs.values() for item in jobs} | {c.experiment for c in self.experiments.configs}

    @property
    def offline(self) -> set[str]:
        """Data jobs that may download nothing: one experiment that forbids it is enough."""
        return set().union(*(made.offline for made in self.plans))

    @property
    def notes(self) -> list[str]:
        """What users should know before anything runs, once each."""
        return list(dict.fromkeys(note for made in self.plans for note in made.notes))

    def blocks(self) -> list[tuple[int, ...]]:
        return sorted({block for stage in BY_RUN for runs in self.runs[stage] for block in runs.blocks})


def plan_all(experiments: Experiments) -> Union:
    """Work out every job of every experiment. Raises `UserError` if a file that one of them names is missing."""
    plans = tuple(_plan(config, experiments.sweep) for config in experiments.configs)
    jobs: dict[str, dict[str, Job]] = {}
    for made in plans:
        for stage, own in made.jobs.items():
            jobs.setdefault(stage, {}).update(own)
    if experiments.sweep:
        job = _plan_sweep(experiments, plans)
        jobs["sweep"] = {job.item: job}
    return Union(experiments, plans, jobs, {stage: _longest(stage, plans) for stage in BY_RUN})


def _plan(config, sweep: str | None) -> Plan:
    try:
        return plan(config)
    except UserError as error:
        raise UserError(f"experiments.{config.experiment}: {error}" if sweep else str(error)) from None


def _longest(stage: str, plans: tuple[Plan, ...]) -> list[Runs]:
    """The runs of every job of a stage: of experiments that share the job, those of the one that asks for most seeds."""
    chosen: dict[str, Runs] = {}
    for made in plans:
        for runs in made.runs:
            item = getattr(runs, stage).item
            if item not in chosen or len(runs.seeds) > len(chosen[item].seeds):
                chosen[item] = runs
    return list(chosen.values())


def _plan_sweep(experiments: Experiments, plans: tuple[Plan, ...]) -> Job:
    compared = [next(iter(made.jobs["compare"].values())) for made in plans]
    told = [
        {
            "experiment": made.config.experiment,
            # The tables lie in a fixed place, so their path does not tell which ones they are.
            "compare": job.key,
            "level": made.config.compare.level,
            "data": made.config.data.model_dump(),
            "generator": made.config.generator.kind if made.config.generator else "",
            "models": {model.name: [model.architecture, model.weights] for model in made.config.models},
        }
        for made, job in zip(plans, compared, strict=True)
    ]
    look = with_fingerprint(experiments.report.model_dump(include={"palette", "style", "dpi"}), "report")
    return Job(
        "sweep",
        experiments.sweep,
        {"sweep": experiments.sweep, "experiments": told, **look},
        {"tables": [job.out for job in compared]},
        code_digest("sweep"),
        place=f"results/{experiments.sweep}",
    )
