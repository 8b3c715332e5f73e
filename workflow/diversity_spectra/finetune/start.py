"""The weights that the training of a run starts from. They follow from its seed, so none are kept: whoever needs them,
for the change dW of the weights, makes them again from the run's record.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from diversity_spectra.errors import UserError
from diversity_spectra.finetune import models
from diversity_spectra.finetune.job import Finetune
from diversity_spectra.jobs import WEIGHTS, parse, read_record
from diversity_spectra.seeds import derive_seed

SAME = 1e-5  # relative: other processors draw the same numbers up to their last digits


def starting(job: Finetune, seed: int, classes: int) -> nn.Module:
    """The network as the training of a run finds it, on the CPU: pretrained where it is, the rest drawn from the seed."""
    torch.manual_seed(derive_seed(derive_seed(job.seed, "run", seed), "weights"))
    weights = f"{job.pretrained}/{WEIGHTS}" if job.pretrained else None
    return models.create(job.network, classes, weights, job.training.dropout, job.training.dropout_where)


def told(model: nn.Module) -> list[float]:
    """Sums of all weights and of their sizes, by which others than these are known."""
    tensors = [tensor.detach().double() for tensor in model.parameters()]
    return [float(sum(tensor.sum() for tensor in tensors)), float(sum(tensor.abs().sum() for tensor in tensors))]


def started_from(run: str | Path, pretrained: str | None) -> dict[str, np.ndarray] | None:
    """The weights that a run was trained from, made again; None of a checkpoint, which was trained elsewhere.

    run: the result of a training. pretrained: the folder of the pretrained weights. Raises `UserError` where this torch
    draws others than the training had.
    """
    record = read_record(run)
    if not record or "start" not in record:
        return None
    job = parse((Finetune,), record, f"{run}/spec.json").model_copy(update={"pretrained": pretrained})
    model = starting(job, record["seed"], record["classes"])
    if not all(math.isclose(*pair, rel_tol=SAME) for pair in zip(told(model), record["start"], strict=True)):
        raise UserError(
            f"{run}: torch {torch.__version__} draws other initial weights than its training had (torch "
            f"{record['packages'].get('torch')}): use that version, or delete the folder and run snakemake again"
        )
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}
