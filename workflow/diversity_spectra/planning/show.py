"""`plan`: what a configuration asks for, before anything is run."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from diversity_spectra.config import load
from diversity_spectra.planning import upgrades
from diversity_spectra.planning.plan import Plan, plan


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configfile", default="config.yaml", help="configuration (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="print only the path of the report")
    parser.epilog = "example: diversity-spectra plan --configfile tests/configs/tiny.yaml"


def run(arguments: argparse.Namespace) -> None:
    config = load(arguments.configfile)
    if arguments.report:
        print(f"results/{config.experiment}/report.html")
        return
    print("\n".join(describe(plan(config))))


def describe(made: Plan) -> list[str]:
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
    lines.append("")
    lines.append(f"{'stage':<12} {'jobs':>6} {'to do':>6}")
    for stage, (jobs, missing) in count_jobs(made).items():
        lines.append(f"{stage:<12} {jobs:>6} {missing:>6}")
    return lines + [f"note: {note}" for note in upgrades.notes(made)]


def count_jobs(made: Plan) -> dict[str, tuple[int, int]]:
    """Jobs per stage: all, and those whose results are not in the cache yet."""
    counts: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for stage, jobs in made.jobs.items():
        if stage in ("finetune", "evaluate", "spectra"):
            continue
        for job in jobs.values():
            counts[stage] += 1
            missing[stage] += not (Path(job.out) / "spec.json").exists()
    for run in made.runs:
        for stage in ("finetune", "evaluate", "spectra"):
            for block in run.blocks:
                done = all(Path(getattr(run, stage).out, f"seed-{seed}", "spec.json").exists() for seed in block)
                counts[stage] += 1
                missing[stage] += not done
    return {stage: (counts[stage], missing[stage]) for stage in counts}
