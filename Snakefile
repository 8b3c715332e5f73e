"""What does training-data diversity do to the weights of a network? The stages, in the order in which they run."""

import os
import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from diversity_spectra.errors import UserError

min_version("9.27")

# A file given with --configfile is a whole experiment or sweep of its own, not an addition to the default one.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


try:
    # These import the kinds of augmentation, to which users add their own.
    from diversity_spectra.planning import experiments, leftover, upgrades
    from diversity_spectra.planning.graph import steps
    from diversity_spectra.planning.lock import claim, hold
    from diversity_spectra.planning.union import plan_all

    # Read again, strictly: Snakemake takes 1e-3 for a text and the last of two equal keys for the only one.
    PLAN = plan_all(experiments.load(*workflow.configfiles, changes=workflow.config_settings.config))
except UserError as error:
    # One line per mistake, and no traceback: nothing of the workflow is at fault.
    print(error.told(), file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)


onstart:
    # One workflow at a time works on an experiment or on a shared result; locks go with the process, however it ends.
    try:
        for name in RESULTS:
            hold(name)
        claim(PLAN.experiments.name, {f"{step.job.stage}/{step.job.item}" for step in steps(PLAN) if step.open})
    except UserError as error:
        raise WorkflowError(str(error)) from None
    for note in [*PLAN.notes, *upgrades.notes(PLAN)]:
        logger.warning(f"note: {note}")
    # On a cluster the jobs of a workflow that was killed live on. What they were making when this one looked for results
    # may be gone with them, so it looks again.
    if workflow.executor_plugin.name == "slurm" and (jobs := leftover.cancel(PLAN.names)):
        print("note: cancelled what a killed workflow left in the queue:", *jobs, file=sys.stderr, flush=True)
        os.execv(sys.executable, sys.orig_argv)
    # With a limit of new jobs per second Snakemake looks for jobs again a second after each look, and every job that ends
    # adds a look of its own: after some hundred jobs it does little else. Submitting is slower than its limit of 100.
    workflow.scheduler.job_rate_limiter = None


localrules:
    all,


include: "workflow/rules/common.smk"


# Rules call `diversity-spectra`, which lies beside this interpreter also where the environment is not activated.
# It takes the place of the shell, which would end at once on a cluster's SIGTERM, and the job with it, while a training
# still saves its state.
shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; exec ")


rule all:
    """Everything of every experiment, and of the sweep where there is one: tables, figures and the report."""
    input:
        [f"results/{name}/report.html" for name in RESULTS],
        [f"results/{name}/tables/{table}.parquet" for name, (tables, _) in RESULTS.items() for table in tables],
        [f"results/{name}/figures/{figure.name}.svg" for name, (_, drawings) in RESULTS.items() for figure in drawings],


include: "workflow/rules/data.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/augment.smk"
include: "workflow/rules/diversity.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/spectra.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/sweep.smk"
