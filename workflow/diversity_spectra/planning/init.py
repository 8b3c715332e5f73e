"""`diversity-spectra init`: a short configuration for the user's own images, network and budget, and what its runs can see."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from diversity_spectra.config import Config, TrainedModel, parse
from diversity_spectra.errors import UserError
from diversity_spectra.files import atomic_file
from diversity_spectra.finetune.job import Network
from diversity_spectra.jobs import read_record
from diversity_spectra.planning import foresee
from diversity_spectra.planning.show import pictures

EPILOG = """\
examples:
  diversity-spectra init photos --architecture resnet18 --seeds 6 --out mine.yaml
  diversity-spectra init digits
"""
DIGITS = "digits"
STEPS = 1000
# lr x decay x steps: the weights are multiplied by about exp(-half of it), 0.78 and 0.37.
DECAY = (0.5, 2.0)

TEXT = """\
# Written by `diversity-spectra init`. Every key with its unit and its reason: config.yaml.

experiment: {name}
data: {{{data}}}
ood:                      # test images out of the training distribution
  - {{kind: corruption, corruptions: [gaussian_noise, gaussian_blur], severities: [3]}}

models:
  - name: {model}
    architecture: {architecture}
    weights: {weights}
    image_size: {side}        # pixels; time grows with its square
    resize: {resize}
    channels: {channels}
    steps: {steps}           # the same for every condition, so choose enough for the plain one to learn
    batch_size: 50
    lr: {lr}
    seeds: {seeds}              # runs of each condition
    baseline_runs: {baseline}     # the noise model
    seeds_per_job: {block}      # runs that share a process: more where trainings are short
    conditions:
      dropout: {{rates: [0.2, 0.5], where: {where}}}
      weight_decay: {{values: [{weak:g}, {strong:g}]}}
      optimisation: {{steps: [0.5, 1.5], lr: [0.5, 2.0]}}   # what the others must be told from
      augmentation: {{rotation: [10], resized_crop: [0.7]}}

diversity: {{embedding: "tf_efficientnet_lite0:embedded", image_size: {side}}}
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", metavar="FOLDER", help=f"your images, one folder per class; or {DIGITS}, the embedded ones")
    add("--architecture", help="a network of timm (default: resnet18; for digits mlp_small)")
    add("--weights", default="none", help="none, hub, embedded or a file (default: %(default)s)")
    add("--seeds", type=int, default=8, help="runs of each condition; the baseline has twice as many (default: 8)")
    add(
        "--out",
        type=Path,
        default=Path("mine.yaml"),
        help="the file, which names the experiment (default: %(default)s)",
    )
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> None:
    out = arguments.out
    if out.exists():
        raise UserError(f"--out {out}: is there already; choose another name")
    if arguments.images != DIGITS and not Path(arguments.images).is_dir():
        raise UserError(f"{arguments.images}: no such folder; give one with a folder per class, or {DIGITS}")
    text = compose(arguments.images, arguments.architecture, arguments.weights, arguments.seeds, out.stem)
    config = parse(yaml.safe_load(text), str(out))
    print("\n".join([*pictures(config.data), *sight(config)]))
    with atomic_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {out}; what it takes: diversity-spectra plan --configfile {out}")


def compose(images: str, architecture: str | None, weights: str, seeds: int, name: str) -> str:
    """The configuration as text. Raises `UserError` for a network that is not known."""
    digits, scratch = images == DIGITS, weights == "none"
    architecture = architecture or ("mlp_small" if digits else "resnet18")
    side = 28 if digits and scratch else 64 if scratch else 224
    lr = 1e-3 if scratch else 1e-4
    weak, strong = (share / lr / STEPS for share in DECAY)
    try:
        blocks = Network(architecture=architecture).has_blocks
    except ValueError as error:
        raise UserError(f"--architecture: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return TEXT.format(
        name=name,
        data="kind: digits" if digits else f"kind: image_folder, path: {json.dumps(images)}, image_size: {side}",
        model=architecture.partition(".")[0],
        architecture=architecture,
        weights=json.dumps(weights),
        side=side,
        resize="pad" if digits else "bicubic",
        channels=1 if digits and scratch else 3,
        steps=STEPS,
        lr="1.0e-3" if scratch else "1.0e-4",
        seeds=seeds,
        baseline=max(2, 2 * seeds),
        block=max(1, seeds) if digits else 1,
        where="blocks" if blocks else "head",
        weak=weak,
        strong=strong,
    )


def sight(config: Config) -> Iterator[str]:
    """What the runs will be able to see: by arithmetic, and by the noise of earlier runs of the network if there are some."""
    yield from foresee.notes(config)
    for model in config.models:
        decays = dict(model.conditions.weight_decay)["values"]
        told = " and ".join(f"{decay:g} by {foresee.shrinkage(model, decay):.2f}" for decay in decays)
        yield (
            f"model {model.name}: weight decay multiplies the weights over the training: {told}; "
            f"one that multiplies them by {foresee.SEEN} or more will not be seen"
        )
        yield from earlier(model)


def earlier(model: TrainedModel) -> Iterator[str]:
    """What past experiments in results/ with this network could see and saw, scaled to the runs of this one.

    In run-to-run standard deviations, root mean square over all measures: the smallest shift of one condition that 80 % of such
    experiments find, which goes with sqrt(1/n + 1/n_baseline), and the shifts of the controls.
    """
    for path in sorted(Path("results").glob("*/tables/controls.parquet")):
        record = read_record(path.parents[1]) or {}
        models = record.get("settings", {}).get("config", {}).get("models", ())
        names = [made["name"] for made in models if made["architecture"] == model.architecture]
        table = pd.read_parquet(path)
        if "smallest_detectable" not in table:  # no controls were run
            continue
        for name, rows in table[table["model"].isin(names) & (table["condition"] != "")].groupby("model"):
            there = np.sqrt(1 / rows["n"] + 1 / rows["n_baseline"])
            here = np.sqrt(1 / model.seeds + 1 / model.baseline_runs)
            least = (rows["smallest_detectable"] / there * here).median()
            found = rows.groupby("family", sort=False)["effect"].max()
            shifts = ", ".join(f"{size:.1f} of {family.replace('_', ' ')}" for family, size in found.items())
            if np.isfinite(least):
                yield (
                    f"by the noise of {path.parents[1]}, {name}: {model.seeds} runs against {model.baseline_runs} will see a shift of "
                    f"all measures together from {least:.2f} standard deviations on; there the largest shifts were {shifts}"
                )
