"""Train one model for one condition and a block of seeds, or prepare its pretrained weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diversity_spectra import imageset
from diversity_spectra.errors import UserError
from diversity_spectra.execution import (
    add_device,
    add_job,
    add_seeds,
    add_threads,
    finished,
    log,
    publish,
    read_job,
)
from diversity_spectra.files import write_json
from diversity_spectra.finetune.job import HUB, ChooseRate, Finetune, Pretrain, Training
from diversity_spectra.seeds import derive_seed

EXAMPLE = """examples (copy the job from `snakemake -np`, or make a result again from its record):
  diversity-spectra finetune pretrained --job results/cache/pretrained/lite0-0123456789ab/spec.json --out again
  diversity-spectra finetune train --job results/cache/finetune/mlp/dropout-0.3-0123456789ab/seed-0/spec.json \\
    --seeds 0 --out again"""


def configure(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, summary in (
        ("pretrained", "bring pretrained weights into one format, or train them on the pool"),
        ("train", "train"),
        ("choose", "choose the learning rate by the images set aside"),
    ):
        step = steps.add_parser(
            name, help=summary, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_job(step)
        if name == "choose":
            continue
        add_device(step)
        add_threads(step)
        step.add_argument("--save-every", type=float, default=300, help="seconds between saved states (default: 300)")
    add_seeds(steps.choices["train"])
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    if arguments.step == "pretrained":
        return _pretrained(arguments)
    if arguments.step == "choose":
        return _choose(read_job(arguments, ChooseRate))
    job = read_job(arguments, Finetune)
    return _train(job, arguments) if job.training else _checkpoint(job)


def _pretrained(arguments: argparse.Namespace) -> None:
    from safetensors.torch import save_file

    from diversity_spectra import devices
    from diversity_spectra.finetune import models
    from diversity_spectra.resume import Resume

    job = read_job(arguments, Pretrain)
    device = devices.choose(
        arguments.device if job.takes_device() else "cpu", arguments.threads, arguments.jobs_per_gpu
    )
    resume = Resume(job.key, "pretrained", arguments.save_every)
    with publish(job, device=devices.describe(device), threads=arguments.threads) as result:
        if job.training:
            from diversity_spectra.finetune.pretrain import pretrain

            model, accuracy = pretrain(imageset.load(job.images).images, job, device, resume)
            log.info("orientations told apart: %.3f", accuracy)
            state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
            result.facts["resumed"] = resume.resumed
        elif HUB.fullmatch(job.weights):
            model = models.create(job.network, 1000, job.weights)
            state, result.facts["commit"] = model.state_dict(), models.hub_commit(model)
        else:
            network = job.network
            state = models.fitting(models.create(network, 1000), job.weights, network.architecture)
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, result.folder / "model.safetensors")
    resume.clear()


def _train(job: Finetune, arguments: argparse.Namespace) -> None:
    import torch

    from diversity_spectra import devices

    train_set = imageset.load(job.train)
    device = devices.choose(arguments.device, arguments.threads, arguments.jobs_per_gpu)
    for seed in arguments.seeds:
        if finished(job, seed):
            log.info("seed %d: there already", seed)
            continue
        log.info("seed-%d: training %s, seed %d", seed, job.name, seed)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)  # the history tells the peak of each run
        try:
            _train_one(job, train_set, seed, device, arguments)
        except UserError as error:
            raise UserError(f"{job.name}, seed {seed}: {error}") from None


def _train_one(job: Finetune, train_set: imageset.ImageSet, seed: int, device, arguments: argparse.Namespace) -> None:
    import pandas as pd
    import torch
    from safetensors.torch import save_file

    from diversity_spectra import devices
    from diversity_spectra.finetune import models, training
    from diversity_spectra.finetune.images import Images
    from diversity_spectra.finetune.start import starting, told
    from diversity_spectra.resume import Resume

    recipe, network = _recipe(job), job.network
    resume = Resume(job.key, f"state-{seed}", arguments.save_every)
    with publish(job, seed, device=devices.describe(device), threads=arguments.threads) as result:
        run_seed, classes = derive_seed(job.seed, "run", seed), len(train_set.classes)
        model = starting(job, seed, classes)
        result.facts |= {"classes": classes, "start": told(model)}
        model = model.to(device)
        if network.channels == 3:
            model = model.to(memory_format=torch.channels_last)
        # One core of the job goes to the training itself.
        workers = arguments.threads - 1
        images = Images(train_set.images, train_set.labels, network, models.normalisation(model), device, workers)
        places = models.dropout_places(model, network)
        if recipe.compile:
            model.compile()
        try:
            outcome = training.train(model, images, recipe, run_seed, resume)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise UserError(f"torch cannot compile here ({str(error).splitlines()[0]}); set compile: false") from None
        result.facts["resumed"] = resume.resumed
        state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, result.folder / "model.safetensors")
        pd.DataFrame(outcome.history).to_parquet(result.folder / "history.parquet", index=False)
        summary = {
            "kappa": training.decay_factor(recipe),
            "kappas": training.decay_factors(model, recipe),
            "lr": recipe.lr,
            "train_loss": outcome.history[-1]["loss"],
            "train_accuracy": outcome.history[-1]["accuracy"],
            "steps": outcome.history[-1]["step"],
            "diverged": outcome.diverged,
            "micro_batch": outcome.micro_batch,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dropout_places": places,
            "layers": models.layers(model),
        }
        write_json(result.folder / "run.json", summary)
    resume.clear()


def _recipe(job: Finetune) -> Training:
    """The recipe of a run, with the learning rate that was chosen in the place of the recipe's own."""
    if job.tuned is None:
        return job.training
    choice = json.loads(Path(job.tuned, "choice.json").read_text())
    return job.training.model_copy(update={"lr": job.training.lr * choice["lr"] / choice["recipe"]})


def _choose(job: ChooseRate) -> None:
    """The rate of the best mean accuracy; of equal ones that of the lower loss. Those with a diverged run are out."""
    import pandas as pd

    with publish(job) as result:
        scores = [pd.read_parquet(Path(trial.evaluate, "metrics.parquet")).iloc[0] for trial in job.trials]
        trials = pd.DataFrame(
            {"lr": trial.lr, "accuracy": score["accuracy"], "nll": score["nll"]}
            for trial, score in zip(job.trials, scores, strict=True)
        )
        means = trials.groupby("lr").agg(lambda values: values.mean(skipna=False)).dropna()
        if means.empty:
            raise UserError(f"{job.name}: trainings diverged with every learning rate of tune.lr; name lower ones")
        best = float(means.sort_values(["accuracy", "nll"], ascending=[False, True]).index[0])
        for rate, row in means.iterrows():
            log.info("lr %g: accuracy %.3f on the images set aside, nll %.3f", rate, row["accuracy"], row["nll"])
        log.info("chosen: %g", best)
        tried = trials.astype(object).where(trials.notna(), None).to_dict("records")
        write_json(result.folder / "choice.json", {"lr": best, "recipe": job.lr, "trials": tried})


def _checkpoint(job: Finetune) -> None:
    """Take a user's trained weights as a run: nothing is trained."""
    import pandas as pd
    from safetensors.torch import save_file

    from diversity_spectra.finetune import models

    with publish(job, 0) as result:
        model = models.create(job.network, len(imageset.load(job.train).classes))
        models.load_weights(model, job.checkpoint, job.network.architecture, strict_head=True)
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
            result.folder / "model.safetensors",
        )
        nothing = {"step": 0, "loss": float("nan"), "accuracy": float("nan")}
        pd.DataFrame([nothing]).to_parquet(result.folder / "history.parquet", index=False)
        summary = {
            "kappa": 1.0,
            "kappas": {},
            "lr": None,
            "train_loss": None,
            "train_accuracy": None,
            "steps": 0,
            "diverged": False,
            "micro_batch": None,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dropout_places": [],
            "layers": models.layers(model),
        }
        write_json(result.folder / "run.json", summary)
