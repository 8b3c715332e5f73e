"""Sources of synthetic images: one class per kind of generator, each drawing images by index.

A source has `count(real)`, the number of images it gives, and `draw(indices)`, which returns images (n, H, W, C) uint8
and one manifest row per image: index, label, class, prompt, kept, reason, its seed where it was drawn here, and what
made it.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch

from diversity_spectra.errors import UserError
from diversity_spectra.imageset import ImageSet
from diversity_spectra.seeds import derive_seed


class Source(Protocol):
    tile: int  # images that take the same time as one

    def count(self, real: ImageSet) -> int: ...

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]: ...


def open_source(settings: dict, inputs: dict, real: ImageSet, device: torch.device) -> Source:
    """The source that `settings["kind"]` names."""
    if settings["kind"] == "ddpm":
        return TrainedHere(settings, inputs["generator"], real, device)
    if settings["kind"] == "image_set":
        from diversity_spectra.generate.given import Given

        return Given(settings, real)
    from diversity_spectra.generate.pipeline import Pipeline

    return Pipeline(settings, real, device)


def pieces(indices: np.ndarray, batch: int, tile: int) -> list[np.ndarray]:
    """Indices (N,) in pieces of `batch`, rounded up to whole tiles."""
    size = tile * math.ceil(batch / tile)
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def is_blank(image: np.ndarray) -> bool:
    """An image of one colour: what a safety checker returns, or a generator that failed."""
    return int(image.max()) - int(image.min()) < 8


class TrainedHere:
    """Images of the diffusion model that the workflow trained."""

    def __init__(self, settings: dict, folder: str, real: ImageSet, device: torch.device):
        from diffusers import UNet2DModel

        from diversity_spectra.generate.ddpm import TILE

        self.tile = TILE
        try:
            self.model = UNet2DModel.from_pretrained(folder, subfolder="unet", use_safetensors=True).to(device).eval()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not a trained generator ({error})") from None
        self.settings = settings
        self.classes = real.classes

    def count(self, real: ImageSet) -> int:
        return self.settings["images_per_class"] * len(real.classes)

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        from diversity_spectra.generate.ddpm import sample

        labels = indices % len(self.classes)
        seeds = [derive_seed(self.settings["seed"], "generate", index) for index in indices]
        images = sample(self.model, labels, seeds, self.settings)
        rows = [
            {
                "index": int(index),
                "label": int(label),
                "class": self.classes[label],
                "seed": seed,
                "prompt": "",
                "kept": not is_blank(image),
                "reason": "blank" if is_blank(image) else "",
            }
            for index, label, seed, image in zip(indices, labels, seeds, images, strict=True)
        ]
        return images, rows
