"""
What the rules share: where a job's settings, inputs and outputs are looked up in the plan.
"""

import os
import re
from collections import Counter, defaultdict
from itertools import filterfalse
from pathlib import Path

from diversity_spectra.compare import TABLES
from diversity_spectra.costs.work import takes_device
from diversity_spectra.files import write_json
from diversity_spectra.planning.plan import files, files_in
from diversity_spectra.planning.union import BY_RUN
from diversity_spectra.report import figures
from diversity_spectra.sweep import COMBINED
from diversity_spectra.sweep import FIGURES as SWEEP_FIGURES
from diversity_spectra.sweep import TABLES as SWEEP_TABLES

LONGEST = 100_000  # characters; Linux allows 131,072 in one argument
EXECUTION = PLAN.experiments.execution
COMPARE = PLAN.named("compare")

# The results of runs by their folder: which job makes them, and with which block of seeds.
MAKER = {
    f"{job.out}/seed-{seed}": (job.item, block)
    for stage in BY_RUN
    for runs in PLAN.runs[stage]
    for job in [getattr(runs, stage)]
    for block in runs.blocks
    for seed in block
}

# What lies in results/<name>/ in the end: the names of tables and figures.
RESULTS = {config.experiment: (TABLES, figures(config)) for config in PLAN.experiments.configs}
RESULTS |= {sweep: (SWEEP_TABLES, SWEEP_FIGURES) for sweep in PLAN.named("sweep")}


def told(job):
    """The job as its stage reads it: canonical JSON, or a file with it where that is too long for a command line."""
    if len(job.text) < LONGEST:
        return job.text
    place = Path(f"results/cache/.jobs/{job.stage}-{job.key}.json")
    if not place.exists():
        write_json(place, job.spec)
    return str(place)


def job(stage):
    """The job that a rule's wildcards name."""
    return lambda wildcards: told(PLAN.job(stage, wildcards.item))


def as_it_is(text):
    """A parameter whose braces are text: of a plain one Snakemake takes `{name}` in a prompt or a title for a wildcard."""
    return lambda wildcards: text


def untracked(text):
    """A parameter that may never change a result: Snakemake compares no parameter whose function takes `input`."""
    return lambda wildcards, input: text


DEVICE = untracked(f"--device {EXECUTION.device}")


def drawn(name, captions):
    """The figures in results/<name>/, and how Snakemake's own report lists them."""

    def listed(figure):
        place, caption = f"results/{name}/figures/{figure.name}.svg", f"{captions}/{figure.kind}.rst"
        return report(place, caption=caption, category=name, labels=figure.labels)

    return list(map(listed, RESULTS[name][1]))


def gpu(stage):
    """One GPU for those jobs of a stage that have a use for it, where the configuration may use one at all."""
    allowed = EXECUTION.device != "cpu"
    return lambda wildcards: int(allowed and takes_device(PLAN.job(stage, wildcards.item).spec))


def grown(amount):
    """A resource that a retry gets more of: a job that was killed for memory or time asks for twice, then three times.

    The time of a training does not grow: it goes on where it was stopped. No job asks for more than four hours, with the
    last retry; where a partition allows less, SLURM would keep it waiting for ever.
    """
    return lambda wildcards, attempt: amount * attempt


def asked(folders):
    """What to ask for, so that these results are there: of each job a file that is missing, or else a record.

    One file for each job keeps the plan of thousands of runs small: its job makes the others with it. Content is part of
    the job's key, so times say nothing (`ancient`).
    """
    together = defaultdict(list)
    for folder in folders:
        together[MAKER.get(folder, folder)].append(folder)
    return [
        ancient(next(filterfalse(os.path.exists, expected(made)), f"{made[0]}/spec.json")) for made in together.values()
    ]


def expected(folders):
    """Files of results; of those that are not there the record, which is written with all the rest at once."""
    for folder in folders:
        record = f"{folder}/spec.json"
        yield from files_in(folder) if os.path.exists(record) else [record]


def inputs(stage):
    """Results that the job reads."""
    return lambda wildcards: asked(
        folder
        for folders in PLAN.job(stage, wildcards.item).inputs.values()
        for folder in ([folders] if isinstance(folders, str) else folders)
    )


def run_inputs(stage, wildcards, seeds):
    """Results that the job reads, of the runs with these seeds only."""
    made = PLAN.job(stage, wildcards.item).inputs
    runs = [f"{made['runs']}/seed-{seed}" for seed in seeds]
    return asked([*runs, *(folder for role, folder in made.items() if role != "runs")])


def outputs(stage, seeds=None):
    """Files of a stage's result; of each of these seeds where the stage works by run.

    Runs are marked `update`: when seeds are added to a block, those that are there are kept.
    """
    folder = f"results/cache/{stage}/{{item}}"
    if seeds is None:
        return files(stage, folder)
    return [update(file) for seed in seeds for file in files(stage, f"{folder}/seed-{seed}")]


def items(stage, block=None):
    """The jobs that are to be made here, as a pattern: those whose result is not complete yet.

    What is complete is a source file for Snakemake, which nothing upstream makes it run again. So a data set that is
    made anew, because something new needs it, retrains nothing.
    """
    if block is None:
        results = [(job.key, [job.out]) for job in PLAN.jobs.get(stage, {}).values()]
    else:
        jobs = [getattr(runs, stage) for runs in PLAN.runs[stage] if block in runs.blocks]
        results = [(job.key, [f"{job.out}/seed-{seed}" for seed in block]) for job in jobs]
    keys = [key for key, folders in results if unmade(stage, folders)]
    # Snakemake compiles the pattern for every output and rewrites it for every job, so a list of hundreds of keys takes
    # most of the planning. Where all is to be made, and no other block makes it too, none is needed.
    if keys and len(keys) == len(results) and (block is None or block in ALONE):
        return ".+"
    return f".+-(?:{'|'.join(keys) or 'nothing'})"


# Blocks that share no seed with another one, so that nothing else makes their results.
BLOCKS_WITH = Counter(seed for block in PLAN.blocks() for seed in block)
ALONE = {block for block in PLAN.blocks() if all(BLOCKS_WITH[seed] == 1 for seed in block)}


def one_of(names):
    """A pattern for a wildcard that is one of these names."""
    return "|".join(map(re.escape, names)) or "nothing"


def unmade(stage, folders):
    """Whether these results have to be made.

    A job on a cluster makes what it was sent for: SLURM may start it again, also just after its result was complete.
    """
    sent = not workflow.is_main_process
    return sent or not all(os.path.exists(file) for folder in folders for file in files(stage, folder))


def gathered_runs(wildcards):
    """What one gathering reads. A job never has more inputs than RUNS_PER_GATHER runs have."""
    runs = PLAN.job("gather", wildcards.item).settings["runs"]
    return asked(run[stage] for run in runs for stage in BY_RUN)


def compared_results(wildcards):
    """What the comparison of an experiment reads."""
    job = COMPARE[wildcards.experiment]
    return asked([*job.inputs["runs"], *job.settings["diversity"].values()])
