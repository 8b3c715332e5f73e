"""What does training-data diversity do to the weights of a network? The stages, in the order in which they run."""

import os
import re
import sys

from snakemake.utils import min_version

from diversity_spectra.config import parse as parse_config
from diversity_spectra.errors import UserError
from diversity_spectra.planning.plan import files, files_in, plan
from diversity_spectra.report import figures
from diversity_spectra.compare import TABLES

min_version("9.27")

# Rules call `diversity-spectra`, which lies beside this interpreter also where the environment is not activated.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])

# A file given with --configfile is a whole experiment of its own, not an addition to the default one.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


try:
    PLAN = plan(parse_config(config))
except UserError as error:
    # One line per mistake, and no traceback: nothing of the workflow is at fault.
    print(error, file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)

EXPERIMENT = PLAN.config.experiment
EXECUTION = PLAN.config.execution
CACHE = "results/cache"
# The device and its batches may never change a result, so they are no params, which Snakemake compares.
DEVICE = f"--device {EXECUTION.device}"


wildcard_constraints:
    item=r".+-[0-9a-f]{12}",


def job(stage):
    """The canonical JSON of the job that a rule's wildcards name."""
    return lambda wildcards: PLAN.job(stage, wildcards.item).text


def inputs(stage):
    """Files that the job reads. Their content is part of the job's key, so their times say nothing (`ancient`)."""

    return lambda wildcards: [
        ancient(file)
        for folders in PLAN.job(stage, wildcards.item).inputs.values()
        for folder in ([folders] if isinstance(folders, str) else folders)
        for file in files_in(folder)
    ]


def run_inputs(stage, wildcards, seeds):
    """Files that the job reads, of the runs with these seeds only."""
    made = PLAN.job(stage, wildcards.item).inputs
    runs = [f"{made['runs']}/seed-{seed}" for seed in seeds]
    others = [folder for role, folder in made.items() if role != "runs"]
    return [ancient(file) for folder in [*runs, *others] for file in files_in(folder)]


def outputs(stage, seeds=None):
    """Files of a stage's result; of each of these seeds where the stage works by run.

    Runs are marked `update`: when seeds are added to a block, those that are there are kept.
    """
    folder = f"{CACHE}/{stage}/{{item}}"
    if seeds is None:
        return files(stage, folder)
    return [update(file) for seed in seeds for file in files(stage, f"{folder}/seed-{seed}")]


def items(stage, block):
    """The jobs that work on exactly this block of seeds, as a pattern."""
    return "|".join(re.escape(getattr(runs, stage).item) for runs in PLAN.runs if block in runs.blocks)


localrules:
    all,


rule all:
    """Everything of the experiment: tables, figures and the report."""
    input:
        f"results/{EXPERIMENT}/report.html",


include: "workflow/rules/data.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/augment.smk"
include: "workflow/rules/diversity.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/spectra.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"
