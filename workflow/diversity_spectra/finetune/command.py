"""Train one model for one condition and a block of seeds, or prepare its pretrained weights."""

from __future__ import annotations

import argparse
import os
import shutil
from contextlib import suppress
from pathlib import Path

from diversity_spectra import imageset
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_device, add_job, finished, log, publish, read_job
from diversity_spectra.files import move_folder, write_json
from diversity_spectra.seeds import derive_seed

EXAMPLE = """examples (copy the job from `snakemake -np`, or make a result again from its record):
  diversity-spectra finetune pretrained --job results/cache/pretrained/lite0-0123456789ab/spec.json --out again
  diversity-spectra finetune train --job results/cache/finetune/mlp/dropout-0.3-0123456789ab/seed-0/spec.json \\
    --seeds 0 --out again"""


def configure(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    pretrained = steps.add_parser(
        "pretrained",
        help="bring pretrained weights into one format, or train them on the pool",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_job(pretrained)
    add_device(pretrained)
    pretrained.add_argument("--save-every", type=float, default=300, help="seconds between saved states (default: 300)")
    train = steps.add_parser(
        "train", help="train", epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_job(train)
    add_device(train)
    train.add_argument("--seeds", type=int, nargs="+", required=True, help="seeds of the runs, one after another")
    train.add_argument("--save-every", type=float, default=300, help="seconds between saved states (default: 300)")
    train.add_argument(
        "--record-divergence", action="store_true", help="keep a run whose loss is not finite and say so"
    )
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    job = read_job(arguments.job, arguments.out)
    if arguments.step == "pretrained":
        _pretrained(job, arguments)
    elif "checkpoint" in job["settings"]:
        _checkpoint(job)
    else:
        _train(job, arguments)


def _pretrained(job: dict, arguments: argparse.Namespace) -> None:
    from safetensors.torch import save_file

    from diversity_spectra.finetune import models

    settings, facts = job["settings"], {}
    if "images" in job["inputs"]:
        from diversity_spectra import devices
        from diversity_spectra.finetune.pretrain import pretrain
        from diversity_spectra.resume import Resume

        resume = Resume(job["key"], "pretrained", arguments.save_every)
        device = devices.choose(arguments.device, arguments.threads)
        model, accuracy = pretrain(imageset.load(job["inputs"]["images"]).images, settings, device, resume)
        log.info("orientations told apart: %.3f", accuracy)
        state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    elif models.HUB.fullmatch(settings["weights"]):
        model = models.create(settings, 1000, settings["weights"])
        state, facts = model.state_dict(), {"commit": models.hub_commit(model)}
    else:
        state = models.read_weights(settings["weights"], settings["architecture"])
    with publish(job, **facts) as folder:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    if "images" in job["inputs"]:
        resume.clear()


def _train(job: dict, arguments: argparse.Namespace) -> None:
    """Finished seeds wait beside the saved states until the block is done.

    Snakemake deletes the outputs of a failed job, also those that were there before; the links kept here lose none.
    """
    from diversity_spectra import devices
    from diversity_spectra.resume import ROOT

    out = Path(job["out"])
    train_set = imageset.load(job["inputs"]["train"])
    device = devices.choose(arguments.device, arguments.threads)
    waiting = ROOT / job["key"]
    for seed in arguments.seeds:
        name = f"seed-{seed}"
        if finished(out / name, job["key"]) and not (waiting / name).exists():
            shutil.copytree(out / name, waiting / name, copy_function=os.link)
        if finished(waiting / name, job["key"]):
            log.info("%s: there already", name)
            continue
        log.info("%s: training %s, seed %d", name, job["name"], seed)
        try:
            _train_one(job, train_set, seed, device, arguments, waiting / name)
        except UserError as error:
            raise UserError(f"{job['name']}, seed {seed}: {error}") from None
    for seed in arguments.seeds:
        move_folder(waiting / f"seed-{seed}", out / f"seed-{seed}")
    with suppress(OSError):  # other blocks of the job may be at work there
        waiting.rmdir()


def _train_one(
    job: dict, train_set: imageset.ImageSet, seed: int, device, arguments: argparse.Namespace, out: Path
) -> None:
    import pandas as pd
    import torch
    from safetensors.torch import save_file

    from diversity_spectra import devices
    from diversity_spectra.finetune import models, training
    from diversity_spectra.finetune.images import Images
    from diversity_spectra.resume import Resume

    settings = job["settings"]
    run_seed = derive_seed(settings["seed"], "run", seed)
    torch.manual_seed(derive_seed(run_seed, "weights"))
    pretrained = job["inputs"].get("pretrained")
    model = models.create(
        settings,
        len(train_set.classes),
        f"{pretrained}/model.safetensors" if pretrained else None,
        settings["dropout"],
        settings["dropout_where"],
    ).to(device)
    if settings["channels"] == 3:
        model = model.to(memory_format=torch.channels_last)
    sizes = (settings["image_size"], settings["resize"], settings["channels"])
    images = Images(train_set.images, train_set.labels, *sizes, models.normalisation(model), device)
    resume = Resume(job["key"], f"state-{seed}", arguments.save_every)
    if settings.get("compile"):
        model.compile()
    try:
        outcome = training.train(model, images, settings, run_seed, resume, arguments.record_divergence)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise UserError(f"torch cannot compile here ({str(error).splitlines()[0]}); set compile: false") from None
    with publish(job, out, seed=seed, device=devices.describe(device)) as folder:
        state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        pd.DataFrame(outcome.history).to_parquet(folder / "history.parquet", index=False)
        summary = {
            "kappa": training.decay_factor(settings) if settings["weight_decay"] else 1.0,
            "train_loss": outcome.history[-1]["loss"],
            "train_accuracy": outcome.history[-1]["accuracy"],
            "steps": outcome.history[-1]["step"],
            "diverged": outcome.diverged,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dropout_places": models.dropout_places(model),
            "layers": models.layers(model),
        }
        write_json(folder / "run.json", summary)
    resume.clear()


def _checkpoint(job: dict) -> None:
    """Take a user's trained weights as a run: nothing is trained."""
    import pandas as pd
    from safetensors.torch import save_file

    from diversity_spectra.finetune import models

    settings = job["settings"]
    classes = imageset.load(job["inputs"]["train"]).classes
    model = models.create(settings, len(classes))
    models.load_weights(model, settings["checkpoint"], settings["architecture"], strict_head=True)
    with publish(job, Path(job["out"]) / "seed-0", seed=0) as folder:
        save_file(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors"
        )
        nothing = {"step": 0, "loss": float("nan"), "accuracy": float("nan")}
        pd.DataFrame([nothing]).to_parquet(folder / "history.parquet", index=False)
        summary = {
            "kappa": 1.0,
            "train_loss": None,
            "train_accuracy": None,
            "steps": 0,
            "diverged": False,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dropout_places": [],
            "layers": models.layers(model),
        }
        write_json(folder / "run.json", summary)
