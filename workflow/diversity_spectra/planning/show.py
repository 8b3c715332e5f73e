"""`plan`: what a configuration asks for, before anything is run."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from diversity_spectra.planning import upgrades
from diversity_spectra.planning.experiments import load
from diversity_spectra.planning.plan import Plan
from diversity_spectra.planning.union import BY_RUN, Union, plan_all
from diversity_spectra.provenance import Job


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configfile", default="config.yaml", help="configuration (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="print only the path of the report")
    parser.epilog = "example: diversity-spectra plan --configfile tests/configs/tiny.yaml"


def run(arguments: argparse.Namespace) -> None:
    experiments = load(arguments.configfile)
    if arguments.report:
        print(f"results/{experiments.name}/report.html")
        return
    print("\n".join(describe(plan_all(experiments))))


def describe(made: Union) -> list[str]:
    sweep = made.experiments.sweep
    lines = [f"sweep {sweep} -> results/{sweep}/report.html", ""] if sweep else []
    for own in made.plans:
        lines += [*_experiment(own), ""]
    lines.append(f"{'stage':<12} {'jobs':>6} {'to do':>6}")
    lines += [f"{stage:<12} {jobs:>6} {missing:>6}" for stage, (jobs, missing) in count_jobs(made).items()]
    return lines + [f"note: {note}" for note in upgrades.notes(made)]


def _experiment(made: Plan) -> list[str]:
    lines = [f"experiment {made.config.experiment} -> results/{made.config.experiment}/report.html", ""]
    for model in made.config.models:
        runs = [run for run in made.runs if run.model is model]
        total = sum(len(run.seeds) for run in runs)
        lines.append(
            f"model {model.name}: {model.architecture}, weights {model.weights}, {model.steps} steps of {model.batch_size};"
            f" {len(runs)} conditions, {total} runs"
        )
        lines += [f"  {run.condition.name:<40} {len(run.seeds):>5} runs on {run.training_set}" for run in runs]
        lines.append("")
    lines.append("training sets: " + ", ".join(made.training_sets))
    lines.append("test sets: " + ", ".join(made.test_sets))
    return lines


def count_jobs(made: Union) -> dict[str, tuple[int, int]]:
    """Jobs per stage: all, and those whose results are not there yet. Jobs that experiments share count once."""
    counts: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for stage, jobs in made.jobs.items():
        if stage in BY_RUN:
            continue
        counts[stage] = len(jobs)
        missing[stage] = sum(not _done(job) for job in jobs.values())
    for stage in BY_RUN:
        for runs in made.runs[stage]:
            for block in runs.blocks:
                done = all(Path(getattr(runs, stage).out, f"seed-{seed}", "spec.json").exists() for seed in block)
                counts[stage] += 1
                missing[stage] += not done
    return {stage: (counts[stage], missing[stage]) for stage in made.jobs}


def _done(job: Job) -> bool:
    """Whether the result is there; in a fixed place, whether what lies there is the result of this job."""
    record = Path(job.out, "spec.json")
    if not record.exists():
        return False
    return not job.place or json.loads(record.read_text()).get("key") == job.key
