"""Pretraining inside the workflow: another task on other images, so that fine-tuning starts from learnt weights.

The task is to tell by how many quarter turns an image was rotated (Gidaris et al. 2018, arXiv 1803.07728): it needs no
labels, so nothing of the later task leaks into the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from diversity_spectra import devices
from diversity_spectra.finetune import models, training
from diversity_spectra.finetune.images import Images
from diversity_spectra.finetune.job import Pretrain
from diversity_spectra.resume import Resume
from diversity_spectra.seeds import derive_seed

TURNS = 4


class QuarterTurns:
    """Images (N, S, S, C) in all four orientations, turned when they are read: row r is image r % N after r // N turns."""

    def __init__(self, images: np.ndarray):
        self.images, self.nbytes = images, TURNS * images.nbytes

    def __len__(self) -> int:
        return TURNS * len(self.images)

    @property
    def labels(self) -> np.ndarray:
        """The number of turns (4N,)."""
        return np.repeat(np.arange(TURNS), len(self.images))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        turns, members = np.divmod(rows, len(self.images))
        read = self.images[members]
        for turn in range(1, TURNS):
            read[turns == turn] = np.rot90(read[turns == turn], turn, axes=(1, 2))
        return read


def pretrain(images: np.ndarray, job: Pretrain, device: torch.device, resume: Resume) -> tuple[nn.Module, float]:
    """A network trained on the orientations of `images` (N, S, S, C) uint8, and its accuracy over the last steps."""
    seed = derive_seed(job.seed, "pretrain")
    torch.manual_seed(derive_seed(seed, "weights"))
    model = models.create(job.network, TURNS).to(device)
    turned = QuarterTurns(images)
    few = turned.nbytes <= devices.HELD_ON_CPU
    pixels = turned[np.arange(len(turned))] if few else turned
    # Turning draws nothing at random, so that a thread may read ahead (workers) without a change of the training.
    batches = Images(pixels, turned.labels, job.network, models.normalisation(model), device, workers=1)
    outcome = training.train(model, batches, job.training, seed, resume)
    return model, outcome.history[-1]["accuracy"]
