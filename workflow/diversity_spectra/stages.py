"""The stages in running order, and the kinds of jobs that each of them makes. Commands, plan and documents read this list."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diversity_spectra.jobs import Job

# Subcommand: module with `configure(parser)` and `run(arguments)`, and what it does.
STAGES = {
    "data": ("data.command", "prepare image sets from a data set"),
    "generate": ("generate.command", "generate synthetic images with a diffusion model"),
    "augment": ("augment.command", "build the training set of one data recipe"),
    "diversity": ("diversity.command", "measure the diversity of an image set"),
    "finetune": ("finetune.command", "train a model for one condition and a block of seeds"),
    "evaluate": ("evaluate.command", "predict and score, in and out of distribution"),
    "spectra": ("spectra.command", "spectra of the weight matrices of a model"),
    "gather": ("compare.gather", "put the tables of some hundred runs together"),
    "compare": ("compare.command", "compare all conditions with dropout and weight decay"),
    "report": ("report.command", "figures and report.html from the tables"),
    "sweep": ("sweep.command", "one report over several experiments, from their tables"),
}


def kinds() -> dict[str, type[Job]]:
    """Every kind of job by its name, in running order."""
    from diversity_spectra.jobs import Job, RunsJob

    packages = dict.fromkeys(module.partition(".")[0] for module, _ in STAGES.values())
    found = {}
    for package in packages:
        module = import_module(f"diversity_spectra.{package}.job")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Job) and value not in (Job, RunsJob):
                found[value.kind] = value
    return found
