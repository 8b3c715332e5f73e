"""
What the rules share: the plan of what is to do, and for each job its inputs, its command and its resources.

A rule's output is the record of a result, or the mark that a result lies where people read it; they alone say what is there.
The plan reads them and asks Snakemake for what is missing, and for nothing else.
"""

TARGETS, STEPS = [], {}

try:
    # A job on a cluster parses this again, and takes its order from the plan of the workflow that has sent it.
    if workflow.is_main_process:
        # This imports the kinds of augmentation, to which users add their own.
        from diversity_spectra.planning import forecast, start
        from diversity_spectra.planning.orders import orders

        READ = start.texts(workflow.configfiles)
        whole, again = start.asked_again(sys.argv)
        WORK = start.plan(workflow.configfiles, workflow.config_settings.config, again)
        forecast.current = forecast.Forecast(forecast.tasks(WORK.steps))
        ordered = orders(WORK)
        STEPS = {(step.job.kind, *step.wildcards): step for step in WORK.to_do}
        TARGETS = [step.target for step in WORK.to_do if step.job.place]
        TARGETS += [report(**figure) for figure in start.figures(WORK) if whole]
        # Without any input Snakemake would run `all` itself; with one that is there it says there is nothing to be done.
        TARGETS = TARGETS or [workflow.main_snakefile]
    else:
        from diversity_spectra.planning.order import written as ordered
except ModuleNotFoundError as missing:
    raise WorkflowError(
        f"The Python of this Snakemake, {sys.executable}, lacks {missing.name}: run `make env` in the checkout, "
        f"and take the snakemake of its .venv/bin"
    ) from None
except UserError as error:
    # One line per mistake, and no traceback: nothing of the workflow is at fault.
    print(error.told(), file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)


def order(kind, wildcards):
    """How the job that the wildcards name is run."""
    return ordered(kind, wildcards[0])


def needs(kind):
    """Records of the results that the job reads and that are still to be made."""

    def records(wildcards):
        step = STEPS.get((kind, *wildcards))
        if step and not whole and os.path.exists(step.target):
            # Its record may be there without its files, or it is to be made anew: a dry run must not remove it to see that.
            workflow.dag.forcefiles.add(step.target)
        return [need.target for need in step.needs] if step else []

    return records


def run(kind):
    """Arguments of the job's command."""
    return lambda wildcards: order(kind, wildcards).command(wildcards.get("seed"))


def told(kind):
    """The job in words."""
    return lambda wildcards: getattr(STEPS.get((kind, *wildcards)), "told", kind)


def cores(kind):
    return lambda wildcards: order(kind, wildcards).threads


def gpu(kind):
    """One GPU for those jobs that have a use for it, where the configuration may use one at all."""
    return lambda wildcards: order(kind, wildcards).gpu


def grown(amount):
    """A resource that a retry gets more of: a job that was killed for memory or time asks for twice, then three times.

    The time of a training does not grow: it goes on where it was stopped. No job asks for more than four hours, with the
    last retry; where a partition allows less, SLURM would keep it waiting for ever.
    """
    return lambda wildcards, attempt: amount * attempt
