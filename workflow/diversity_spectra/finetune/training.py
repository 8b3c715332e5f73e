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
    """History rows (step, loss, accuracy, lr, images_per_second, peak_memory_mb), whether the loss stayed finite, and how
    many images of a batch went through the network at a time: fewer than the batch where the device had too little memory.
    """

    history: list[dict]
    diverged: bool
    micro_batch: int


def learning_rate(step: int, recipe: Training) -> float:
    """Rate of one step: linear warm-up, then cosine to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983), a line, or constant."""
    warmup = round(recipe.warmup * recipe.steps)
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, recipe.steps - warmup)
    falling = {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress, "constant": 1.0}
    return recipe.lr * falling[recipe.schedule]


def optimizer(model: nn.Module, recipe: Training) -> torch.optim.Optimizer:
    """torch's. AdamW decouples the decay from the gradient (Loshchilov and Hutter 2019, arXiv 1711.05101), the others add it."""
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
    if not recipe.shrinks:
        return 1.0
    product = average = 1.0
    for step in range(recipe.steps):
        product *= 1 - share * learning_rate(step, recipe) * recipe.decay
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
    device = images.device
    optimiser = optimizer(model, recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")

    def averaged(kept: list, new: list, step: torch.Tensor) -> None:
        get_ema_multi_avg_fn(average_decay(int(step), recipe))(kept, new, step)

    average = AveragedModel(model, multi_avg_fn=averaged, use_buffers=True) if recipe.ema else None
    mix = mixer(recipe, int(images.labels.max()) + 1)
    batch, steps = recipe.batch_size, recipe.steps
    outcome = Outcome([], False, math.ceil(batch / recipe.accumulate))
    weights = class_weights(images.labels) if recipe.balanced else None
    start = 0
    losses, correct, since = 0.0, 0, 0
    if state := resume.load():
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        scaler.load_state_dict(state["scaler"])
        if average:
            average.load_state_dict(state["average"])
        start, outcome.history, outcome.micro_batch = state["step"], state["history"], state["micro_batch"]
        losses, correct, since = state["sums"]
    _train_mode(model, recipe.freeze_norm)
    # The first step takes the memory of all. One that fails half-way has changed weights, statistics or the optimiser.
    before = {name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    clock = time.monotonic()
    record_every = max(1, steps // RECORDS)
    with resume.watching(), closing(images.ahead(batches(images, recipe, seed, start, weights))) as read:
        for step, (indices, pixels) in enumerate(read, start + 1):
            rate = learning_rate(step - 1, recipe)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["lr_scale"]
            loss = None
            while loss is None:
                # Dropout draws from the global stream; its seed is that of the step, so no state has to be kept.
                devices.seed(derive_seed(seed, "step", step - 1), device)
                flipped = torch.rand(len(indices)) < 0.5 if recipe.flip else None
                with suppress(torch.OutOfMemoryError):
                    loss, hits = _step(
                        model, optimiser, scaler, images, indices, pixels, flipped, mix, outcome.micro_batch, recipe
                    )
                    continue
                # Only after the handler, whose traceback holds the tensors of the failed step, can they be freed.
                torch.cuda.empty_cache()
                outcome.micro_batch = _smaller(model, outcome.micro_batch, recipe)
                if before:
                    model.load_state_dict(before)
                    scaler = _again(scaler, device)
                    if not state:
                        optimiser.state.clear()
            before = None
            if average:
                average.update_parameters(model)
            losses, correct, since = losses + loss, correct + hits, since + 1
            last = step == steps
            if step % record_every == 0 or last:
                mean_loss = float(losses) / since
                seconds = max(time.monotonic() - clock, 1e-9)
                outcome.history.append(
                    {
                        "step": step,
                        "loss": mean_loss,
                        "accuracy": float(correct) / (since * batch),
                        "lr": rate,
                        "images_per_second": since * batch / seconds,
                        "peak_memory_mb": torch.cuda.max_memory_allocated(device) / 2**20
                        if device.type == "cuda"
                        else math.nan,
                    }
                )
                log.info(
                    "step %d of %d, loss %.4f, accuracy %.3f", step, steps, mean_loss, outcome.history[-1]["accuracy"]
                )
                losses, correct, since, clock = 0.0, 0, 0, time.monotonic()
                if not math.isfinite(mean_loss):
                    if recipe.on_divergence == "fail":
                        raise UserError(
                            f"the loss is {mean_loss} at step {step}: lower lr, or set on_divergence to record"
                        )
                    outcome.diverged = True
                    break
            if not last and resume.due():
                resume.save(
                    {
                        "step": step,
                        "model": model.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "scaler": scaler.state_dict(),
                        "average": average.state_dict() if average else {},
                        "history": outcome.history,
                        "micro_batch": outcome.micro_batch,
                        "sums": [float(losses), float(correct), since],
                    }
                )
    if average:
        model.load_state_dict(average.module.state_dict())
    model.eval()
    return outcome


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


def _again(scaler: torch.amp.GradScaler, device: torch.device) -> torch.amp.GradScaler:
    """A scaler of the same scale that has seen nothing of a step yet."""
    fresh = torch.amp.GradScaler(device.type, enabled=scaler.is_enabled())
    fresh.load_state_dict(scaler.state_dict())
    return fresh


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    images: Images,
    indices: torch.Tensor,
    pixels: torch.Tensor | None,
    flipped: torch.Tensor | None,
    mix: v2.Transform | None,
    micro: int,
    recipe: Training,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimiser step over `indices`, `micro` images at a time. Returns the loss and the number of hits, detached."""
    optimiser.zero_grad(set_to_none=True)
    loss_sum, hits = 0.0, 0
    for start in range(0, len(indices), micro):
        part = slice(start, start + micro)
        given = (each if each is None else each[part] for each in (flipped, pixels))
        batch, labels = images.batch(indices[part], *given)
        batch, targets = (
            mix(batch, labels) if mix else (batch, labels)
        )  # targets: (B,) or, of mixed images, (B, classes)
        with devices.computing(recipe.precision, images.device):
            logits = model(batch)
            loss = functional.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
        scaler.scale(loss * (len(labels) / len(indices))).backward()
        # Detached tensors, no .item(): the device need not be waited for.
        loss_sum = loss_sum + loss.detach() * (len(labels) / len(indices))
        hits = hits + (logits.detach().argmax(1) == labels).sum()
    if recipe.clip:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    scaler.step(optimiser)
    scaler.update()
    return loss_sum, hits


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
