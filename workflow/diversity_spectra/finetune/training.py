"""One training run of a fixed number of steps: an optimiser of torch, linear warm-up, a schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from diversity_spectra import devices
from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.finetune import layerwise
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Training
from diversity_spectra.resume import Resume
from diversity_spectra.seeds import derive_seed

if TYPE_CHECKING:
    from torchvision.transforms import v2

RECORDS = 20  # rows of the history


@dataclass
class Outcome:
    """History rows (step, loss, accuracy, images_per_second, lr, peak_memory_mb), whether the loss stayed finite, and how
    many images of a batch went through the network at a time: fewer than the batch where the device had too little memory.
    """

    history: list[dict]
    diverged: bool
    micro_batch: int


def learning_rate(step: int, recipe: Training) -> float:
    """Rate of a step: linear warm-up, then cosine to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983), a line, or constant."""
    warmup = round(recipe.warmup * recipe.steps)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, recipe.steps - warmup)
    falling = {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress, "constant": 1.0}
    return recipe.lr * falling[recipe.schedule]


def optimizer(model: nn.Module, recipe: Training) -> torch.optim.Optimizer:
    """torch's. AdamW decouples decay from the gradient (Loshchilov and Hutter 2019, arXiv 1711.05101), the others add it."""
    groups = layerwise.parameter_groups(model, recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=True)
    return {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimizer](groups, lr=recipe.lr, fused=True)


def average_decay(step: int, recipe: Training) -> float:
    """What the moving average keeps of itself at a step, from 0 on: it starts as the weights and slows down to `ema`.

    As timm's `ModelEmaV3` with warm-up does; otherwise a short training ends near the weights that it began with.
    """
    return min(recipe.ema, 1 - (1 + step) ** (-2 / 3))


def decay_factor(recipe: Training, share: float = 1.0) -> float:
    """kappa = prod_t (1 - lr_t x decay): what decoupled weight decay alone multiplies every matrix by.

    Of averaged weights it is the same average of the products. share: of the learning rate, for a layer that has less.
    1 where decay is coupled: what L2 in the gradient does depends on the data, so there is no such factor.
    """
    decay = layerwise.decay(recipe)
    if not decay or recipe.optimizer != "adamw":
        return 1.0
    product = average = 1.0
    for step in range(recipe.steps):
        product *= 1 - share * learning_rate(step, recipe) * decay
        ema = average_decay(step, recipe)
        average = ema * average + (1 - ema) * product
    return average


def decay_factors(model: nn.Module, recipe: Training) -> dict[str, float]:
    """kappa of every layer with a matrix: 1 where nothing decays, nearer to 1 where the learning rate is lower."""
    shares, decaying = layerwise.rates(model, recipe), layerwise.decays(model, recipe)
    factors = {share: decay_factor(recipe, share) for share in {*shares.values()}}
    return {
        name.removesuffix(".weight"): factors[shares[name]] if decaying[name] else 1.0
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1
    }


def mixer(recipe: Training, classes: int) -> v2.Transform | None:
    """Mixup (Zhang et al. 2018, arXiv 1710.09412) or CutMix (Yun et al. 2019, arXiv 1905.04899) of a batch, by chance."""
    if not (recipe.mixup or recipe.cutmix):
        return None
    from torchvision.transforms import v2

    kinds = ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
    return v2.RandomChoice([kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha])


def epoch_order(images: int, epoch: int, seed: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """A permutation (images,) of its own for every epoch and run; with weights (images,), so many draws by them."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    if weights is None:
        return torch.randperm(images, generator=generator)
    return torch.multinomial(weights, images, replacement=True, generator=generator)


def class_weights(labels: torch.Tensor) -> torch.Tensor:
    """Weights of draws by which every class is drawn as often, (N,) float64 of labels (N,)."""
    labels = labels.cpu()
    return 1 / torch.bincount(labels).double()[labels]


def train(model: nn.Module, images: Images, recipe: Training, seed: int, resume: Resume) -> Outcome:
    """Train `model` in place for `recipe.steps` steps. `seed` is that of the run.

    With `recipe.ema` it ends with the exponential moving average of its weights and buffers over the steps.

    Raises `UserError` if the loss is not finite, unless that is to be recorded: then training ends there. Raises it too
    where memory lacks and parts of a batch would change the statistics of BatchNorm, unless that is allowed.
    """

    def averaged(kept: list, new: list, step: torch.Tensor) -> None:
        get_ema_multi_avg_fn(average_decay(int(step), recipe))(kept, new, step)

    average = AveragedModel(model, multi_avg_fn=averaged, use_buffers=True) if recipe.ema else None
    take, history, sums = Stepper(model, images, recipe, seed), [], Sums()
    weights = class_weights(images.labels) if recipe.balanced else None
    start, diverged = 0, False
    if state := resume.load():
        take.load_state_dict(state["stepper"])
        if average:
            average.load_state_dict(state["average"])
        start, history, sums = state["step"], state["history"], Sums(*state["sums"])
    _train_mode(model, recipe.freeze_norm)
    take.remember()
    clock, record_every = time.monotonic(), max(1, recipe.steps // RECORDS)
    with resume.watching(), closing(images.ahead(batches(images, recipe, seed, start, weights))) as read:
        for step, (indices, pixels) in enumerate(read, start + 1):
            sums.add(*take(step - 1, indices, pixels))
            if average:
                average.update_parameters(model)
            last = step == recipe.steps
            if step % record_every == 0 or last:
                history.append({"step": step, **sums.row(recipe.batch_size, time.monotonic() - clock), **take.told()})
                sums, clock, loss = Sums(), time.monotonic(), history[-1]["loss"]
                log.info("step %d of %d, loss %.4f, accuracy %.3f", step, recipe.steps, loss, history[-1]["accuracy"])
                if not math.isfinite(loss):
                    if recipe.on_divergence == "fail":
                        raise UserError(f"the loss is {loss} at step {step}: lower lr, or set on_divergence to record")
                    diverged = True
                    break
            if not last and resume.due():
                resume.save(
                    {
                        "step": step,
                        "stepper": take.state_dict(),
                        "average": average.state_dict() if average else {},
                        "history": history,
                        "sums": [float(sums.loss), float(sums.hits), sums.steps],
                    }
                )
    if average:
        model.load_state_dict(average.module.state_dict())
    model.eval()
    return Outcome(history, diverged, take.micro)


@dataclass
class Sums:
    """Over the steps since the last row of the history: of tensors, so that no step waits for the device."""

    loss: torch.Tensor | float = 0.0
    hits: torch.Tensor | float = 0.0
    steps: int = 0

    def add(self, loss: torch.Tensor, hits: torch.Tensor) -> None:
        self.loss, self.hits, self.steps = self.loss + loss, self.hits + hits, self.steps + 1

    def row(self, batch: int, seconds: float) -> dict[str, float]:
        return {
            "loss": float(self.loss) / self.steps,
            "accuracy": float(self.hits) / (self.steps * batch),
            "images_per_second": self.steps * batch / max(seconds, 1e-9),
        }


class Stepper:
    """Optimiser steps of one run; where memory lacks for a batch, in parts of it from then on."""

    def __init__(self, model: nn.Module, images: Images, recipe: Training, seed: int):
        self.model, self.images, self.recipe, self.seed = model, images, recipe, seed
        self.device = images.device
        self.optimiser, self.scaler = optimizer(model, recipe), self._scaler()
        self.mix = mixer(recipe, int(images.labels.max()) + 1)
        self.micro = math.ceil(recipe.batch_size / recipe.accumulate)  # images that go through the network at a time
        self.rate, self.new = 0.0, True
        self.before: dict[str, torch.Tensor] | None = None

    def state_dict(self) -> dict:
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimiser", "scaler")}
        return {**parts, "micro": self.micro}

    def load_state_dict(self, state: dict) -> None:
        for name in ("model", "optimiser", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self.micro = state["micro"]

    def remember(self) -> None:
        """Keep what the first step begins with: it takes the memory of all, and one that fails half-way has changed things."""
        self.before = {name: tensor.to("cpu", copy=True) for name, tensor in self.model.state_dict().items()}
        self.new = not self.optimiser.state

    def told(self) -> dict[str, float]:
        """What the history says of the last step beside loss and accuracy."""
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20 if self.device.type == "cuda" else math.nan
        return {"lr": self.rate, "peak_memory_mb": peak}

    def __call__(
        self, step: int, indices: torch.Tensor, pixels: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Step number `step`, from 0 on, over rows `indices` (B,) of the images. Returns the loss and the number of hits."""
        self.rate = learning_rate(step, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["lr_scale"]
        while True:
            # Dropout draws from the global stream; its seed is that of the step, so no state has to be kept.
            devices.seed(derive_seed(self.seed, "step", step), self.device)
            flipped = torch.rand(len(indices)) < 0.5 if self.recipe.flip else None
            with suppress(torch.OutOfMemoryError):
                done = self._attempt(indices, pixels, flipped)
                self.before = None
                return done
            # Only after the handler, whose traceback holds the tensors of the failed step, can they be freed.
            room = self.images.let_go()
            torch.cuda.empty_cache()
            self.micro = self.micro if room else _smaller(self.model, self.micro, self.recipe)
            if self.before:
                self.model.load_state_dict(self.before)
                self.scaler = self._scaler(self.scaler.state_dict())
                if self.new:
                    self.optimiser.state.clear()

    def _attempt(
        self, indices: torch.Tensor, pixels: torch.Tensor | None, flipped: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        recipe, scaler = self.recipe, self.scaler
        self.optimiser.zero_grad(set_to_none=True)
        loss_sum, hits = 0.0, 0
        for start in range(0, len(indices), self.micro):
            part = slice(start, start + self.micro)
            given = (each if each is None else each[part] for each in (flipped, pixels))
            batch, labels = self.images.batch(indices[part], *given)
            # targets: (B,) or, of mixed images, (B, classes)
            batch, targets = self.mix(batch, labels) if self.mix else (batch, labels)
            with devices.computing(recipe.precision, self.device):
                logits = self.model(batch)
                loss = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
            scaler.scale(loss * (len(labels) / len(indices))).backward()
            # Detached tensors, no .item(): the device need not be waited for.
            loss_sum = loss_sum + loss.detach() * (len(labels) / len(indices))
            hits = hits + (logits.detach().argmax(1) == labels).sum()
        if recipe.clip:
            scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        scaler.step(self.optimiser)
        scaler.update()
        return loss_sum, hits

    def _scaler(self, state: dict | None = None) -> torch.amp.GradScaler:
        """A scaler that has seen nothing of a step yet, of the scale that `state` tells."""
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "float16")
        if state:
            scaler.load_state_dict(state)
        return scaler


def _smaller(model: nn.Module, micro: int, recipe: Training) -> int:
    """Half as many images at a time, since so many were too many. Raises `UserError` where that cannot be."""
    if micro == 1:
        raise UserError("out of memory on the device even with one image at a time")
    norms = any(isinstance(each, nn.modules.batchnorm._BatchNorm) and each.training for each in model.modules())
    if norms and not recipe.split_batch_norm:
        raise UserError(
            f"out of memory on the device with {micro} images at a time, and with fewer BatchNorm has other statistics:"
            " lower batch_size in all conditions, or set split_batch_norm: true"
        )
    log.warning(
        "out of memory: going on with %d images at a time, %d per step as before", micro // 2, recipe.batch_size
    )
    return micro // 2


def batches(
    images: Images, recipe: Training, seed: int, start: int = 0, weights: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """Rows (B,) of the images of each step from `start` on: pieces of the epochs' permutations, joined where one ends.

    They lie where the images do, so that no step waits for a copy.
    """
    device = images.device if images.held is not None else torch.device("cpu")
    order, epoch = torch.empty(0), -1
    for step in range(start, recipe.steps):
        pieces, position, wanted = [], step * recipe.batch_size, recipe.batch_size
        while wanted:
            if position // len(images) != epoch:
                epoch = position // len(images)
                order = epoch_order(len(images), epoch, seed, weights).to(device)
                order += epoch * len(images) if images.fresh else 0
            pieces.append(order[position % len(images) :][:wanted])
            position, wanted = position + len(pieces[-1]), wanted - len(pieces[-1])
        yield torch.cat(pieces)


def _train_mode(model: nn.Module, freeze_norm: bool) -> None:
    model.train()
    # Running statistics stay as pretrained; at a resolution far from the pretraining one they would drift. So do those of
    # layers that are not trained.
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            frozen = module.affine and not module.weight.requires_grad
            module.train(not (freeze_norm or frozen))
