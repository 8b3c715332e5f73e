"""What does training-data diversity do to the weights of a network? The stages, in the order in which they run."""

import os
import shlex
import sys

# The code of this very checkout, wherever the environment has its own from: a copy or a worktree may hold another.
sys.path.insert(0, os.path.join(workflow.basedir, "workflow"))
os.environ |= {"PYTHONPATH": os.pathsep.join([sys.path[0], *filter(None, [os.getenv("PYTHONPATH")])])}

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

if not workflow.modifier.is_main_snakefile():
    raise WorkflowError(
        "diversity-spectra cannot be a module of another workflow: it takes locks and reads its configuration itself. "
        "Run it by a rule of its own (shell: snakemake --snakefile .../Snakefile --configfile ...), or read its tables."
    )

from diversity_spectra.errors import UserError

# A file given with --configfile is a whole experiment or sweep of its own, not an addition to the default one.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"


wildcard_constraints:
    item=r".+-[0-9a-f]{12}",
    seed=r"\d+",


onstart:
    # One workflow at a time works on an experiment or on a shared result; locks go with the process, however it ends.
    try:
        notes, cancelled = start.begin(WORK, on_cluster=workflow.executor_plugin.name == "slurm")
        start.forget(STEPS.get((job.rule.name, *job.wildcards)) for job in workflow.dag.needrun_jobs())
    except UserError as error:
        raise WorkflowError(str(error)) from None
    for note in notes:
        logger.warning(f"note: {note}")
    # On a cluster the jobs of a workflow that was killed live on. What they were making when this one looked for results
    # may be gone with them, so it looks again.
    if cancelled:
        print("note: cancelled what a killed workflow left in the queue:", *cancelled, file=sys.stderr, flush=True)
        os.execv(sys.executable, sys.orig_argv)
    # With a limit of new jobs per second Snakemake looks for jobs again a second after each look, and every job that ends
    # adds a look of its own: after some hundred jobs it does little else. Submitting is slower than its limit of 100.
    workflow.scheduler.job_rate_limiter = None


onsuccess:
    for note in start.changed(READ):
        logger.warning(f"note: {note}")


onerror:
    for note in start.changed(READ):
        logger.warning(f"note: {note}")


localrules:
    all,


# Rules call `diversity-spectra`, which lies beside this interpreter also where the environment is not activated.
# It takes the place of the shell, which would end at once on a cluster's SIGTERM, and the job with it, while a training
# still saves its state.
shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; exec ")


rule all:
    """Everything of every experiment, and of the sweep where there is one, as far as it is still to be made."""
    input:
        TARGETS,


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
