"""A small diffusion model that the workflow trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from diversity_spectra.generate.kind import Generator, Source
from diversity_spectra.settings import Count, Positive, key
from diversity_spectra.work import Shape, Work

if TYPE_CHECKING:
    import torch

    from diversity_spectra.imageset import ImageSet
    from diversity_spectra.resume import Resume

TRAINING = ("kind", "train_on", "train_steps", "batch_size", "lr", "channels")
DRAWING = ("kind", "images_per_class", "inference_steps", "guidance", "channels")


class Ddpm(Generator):
    """A small class-conditional diffusion model trained by the workflow (Ho et al. 2020, arXiv 2006.11239)."""

    short: ClassVar[str] = "a small diffusion model, trained here"
    trained: ClassVar[bool] = True

    kind: Literal["ddpm"] = key(description="train a small diffusion model here")
    train_on: Literal["train", "pool"] = key(
        "train",
        description="`train`: no outside information; `pool`: other images of the data set, as a public model has",
    )
    images_per_class: Count = key(100, description="synthetic images per class to generate")
    train_steps: Count = key(800, description="optimiser steps of the diffusion model")
    batch_size: int = key(64, ge=1, le=65536, description="images per step")
    lr: Positive = key(2e-3, le=1, description="learning rate of AdamW, constant after warm-up")
    channels: list[Annotated[int, Field(ge=8, le=2048, multiple_of=8)]] = key(
        [24, 48], min_length=1, description="UNet widths, in multiples of 8"
    )
    inference_steps: int = key(10, ge=1, le=1000, description="DPM-Solver++ steps per image")
    guidance: float = key(1.5, ge=0, le=50, description="classifier-free guidance (1 = none); lower is more diverse")
    shards: int = key(1, ge=1, le=10000, description="parts that may be generated side by side")

    def for_training(self) -> Self:
        return self.reading(*TRAINING)

    def for_drawing(self) -> Self:
        return self.reading(*DRAWING)

    def count(self, classes: int) -> int:
        return self.images_per_class * classes

    def training(self, shape: Shape | None) -> Work:
        kind = f"ddpm {self.channels} at {shape[1] if shape else '?'} px, {self.batch_size} a step"
        return Work(kind, "images", self.train_steps * self.batch_size)

    def drawing(self, made: Work) -> Work:
        # Guidance asks the network twice, with the class and without.
        calls = self.inference_steps * (2 if self.guidance != 1 else 1)
        return Work(
            f"ddpm {self.channels}{made.kind}",
            "denoisings",
            None if made.units is None else made.units * calls,
            made.size,
        )

    def train(self, images: ImageSet, seed: int, device: torch.device, resume: Resume, folder: Path) -> None:
        from diversity_spectra.generate import ddpm

        model, losses = ddpm.train(images.images, images.labels, self, seed, device, resume)
        model.save_pretrained(folder / "unet")
        (folder / "losses.json").write_text(json.dumps(losses))

    def open(self, trained: str | None, real: ImageSet, seed: int, device: torch.device) -> Source:
        from diversity_spectra.generate.ddpm import Trained

        return Trained(self, trained, real, seed, device)

    def told(self, pool_per_class: int) -> str:
        if self.train_on == "pool":
            source = (
                f"on {pool_per_class} other images per class of the same data set, which no classifier is trained on: this "
                "is outside information, as a pretrained model brings it too, so a benefit may come from those images and "
                "not from generating"
            )
        else:
            source = "on the training images alone: no outside information"
        return (
            f"{self.images_per_class} images per class from a small class-conditional diffusion model, trained by the "
            f"workflow for {self.train_steps} steps {source}. Sampled in {self.inference_steps} steps with guidance "
            f"{self.guidance:g}."
        )


KIND = Ddpm
