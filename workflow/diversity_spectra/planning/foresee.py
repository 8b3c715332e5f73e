"""What follows from a configuration by arithmetic, and can be said before anything is run: notes, not errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from statistics import NormalDist

from diversity_spectra.augment.job import Augment, DataRecipe
from diversity_spectra.config import Config
from diversity_spectra.config.experiment import TrainedModel
from diversity_spectra.planning.machine import gpus

SEEN = 0.99  # what weight decay multiplies the weights by, from which on it is too weak to be seen
POWER, LEVEL = 0.8, 0.05
PATCH = re.compile(r"patch(\d+)(?:_|$)")


def notes(config: Config) -> Iterator[str]:
    """A sentence for everything that will not be as its author may think."""
    if config.execution.device.startswith("cuda") and not gpus():
        yield f"execution.device is {config.execution.device}, and no GPU is seen on this machine: fine where jobs run elsewhere"
    yield from _waiting(config)
    for model in config.models:
        yield from _decay(model)
        yield from _power(model)
        yield from _tokens(model)


def shrinkage(model: TrainedModel, decay: float) -> float:
    """What decoupled decay multiplies the weights by over a training: prod(1 - lr_t decay), lr_t by its mean over the steps.

    A warm-up, a cosine and a line all have a mean of one half.
    """
    mean = 0.5 if model.schedule != "constant" else 1 - 0.5 * model.warmup
    return math.exp(-mean * model.lr * decay * model.steps)


def detectable(runs: int, baseline: int) -> float:
    """Shift of one measure, in run-to-run standard deviations, that POWER of such experiments find, were the noise known."""
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)) * math.sqrt(1 / runs + 1 / baseline)


def _waiting(config: Config) -> Iterator[str]:
    execution = config.execution
    if execution.threads > 1 or not any(
        condition.data.augmentations for model in config.models for condition in model.expanded()
    ):
        return
    sets = Augment(recipe=DataRecipe(), copies=config.copies, materialise=execution.materialise, images="train")
    size = math.prod(config.data.shape("train") or ()) * (1 if config.copies == "fresh" else config.copies)
    on_gpu = execution.device.startswith("cuda") or (execution.device == "auto" and gpus())
    if on_gpu and not sets.stored(size):
        yield (
            "augmented images are made when they are read, and with execution.threads: 1 by the training itself, while its GPU"
            " waits; of more threads all but one make them ahead"
        )


def _decay(model: TrainedModel) -> Iterator[str]:
    if model.optimizer != "adamw":  # coupled: what it does depends on the data
        return
    family = model.conditions.weight_decay
    weak = {value: shrinkage(model, value) for value in (family.values if family else ())}
    weak = {value: factor for value, factor in weak.items() if factor > SEEN}
    if weak:
        told = ", ".join(f"{value:g} by 1 - {1 - factor:.2g}" for value, factor in weak.items())
        yield (
            f"model {model.name}: weight decay multiplies the weights, over the whole training: {told}; that will not be seen: "
            "take more decay, a higher rate or more steps"
        )


def _power(model: TrainedModel) -> Iterator[str]:
    if model.seeds < 2 or model.baseline_runs < 2:
        yield f"model {model.name}: {model.seeds} runs of a condition say nothing of their noise: at least 2, better 8"
        return
    size = detectable(model.seeds, model.baseline_runs)
    yield (
        f"model {model.name}: {model.seeds} runs of a condition against {model.baseline_runs} of the baseline find, at best, a shift of "
        f"one measure of {size:.1f} run-to-run standard deviations (in {POWER:.0%} of such experiments, before correction)"
    )


def _tokens(model: TrainedModel) -> Iterator[str]:
    found = PATCH.search(model.architecture)
    patch = model.options.get("patch_size", int(found[1]) if found else 0)
    if isinstance(patch, int) and model.image_size < 2 * patch:
        yield (
            f"model {model.name}: {model.architecture} cuts images of {model.image_size} px into patches of {patch}: one token, so "
            "that attention has nothing to attend to; take a larger image_size"
        )
