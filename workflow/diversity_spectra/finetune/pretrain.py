"""Pretraining inside the workflow: another task on other images, so that fine-tuning starts from learnt weights.

The task is to tell by how many quarter turns an image was rotated (Gidaris et al. 2018, arXiv 1803.07728): it needs no
labels, so nothing of the later task leaks into the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from diversity_spectra.finetune import models, training
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Pretrain
from diversity_spectra.resume import Resume
from diversity_spectra.seeds import derive_seed

TURNS = 4


def quarter_turns(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, S, S, C) in all four orientations: (4N, S, S, C), and the number of turns (4N,)."""
    turned = np.concatenate([np.rot90(images, turns, axes=(1, 2)) for turns in range(TURNS)])
    return turned, np.repeat(np.arange(TURNS), len(images))


def pretrain(images: np.ndarray, job: Pretrain, device: torch.device, resume: Resume) -> tuple[nn.Module, float]:
    """A network trained on the orientations of `images` (N, S, S, C) uint8, and its accuracy over the last steps."""
    seed = derive_seed(job.seed, "pretrain")
    torch.manual_seed(derive_seed(seed, "weights"))
    model = models.create(job.network, TURNS).to(device)
    batches = Images(*quarter_turns(images), job.network, models.normalisation(model), device)
    outcome = training.train(model, batches, job.training, seed, resume)
    return model, outcome.history[-1]["accuracy"]
