"""Sources of synthetic images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from diversity_spectra.config.values import Count, Fraction, LocalPath, Model, Name, Positive, key


class Ddpm(Model):
    """A small class-conditional diffusion model trained by the workflow (Ho et al. 2020, arXiv 2006.11239)."""

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


class _Diffusers(Model):
    model: str = key(min_length=1, description="hub id or local folder of a diffusers pipeline")
    revision: str | None = key(
        None, pattern=r"^[0-9a-f]{40}$", description="commit of the hub model (needed for a hub id)"
    )
    images_per_class: Count = key(100, description="synthetic images per class to generate")
    prompts: list[Annotated[str, Field(min_length=1)]] = key(
        ["a photo of a {name}"], min_length=1, description="templates; {name} is the class, used in turn"
    )
    captions: LocalPath | None = key(
        None,
        description="instead of prompts: a .yaml file with a list of captions for each class, or a text file with one a line",
    )
    negative_prompt: str = key("", description="what the images shall not show")
    guidance: float = key(7.5, ge=0, le=50, description="guidance scale; lower is more diverse")
    inference_steps: int = key(30, ge=1, le=1000, description="denoising steps per image")
    scheduler: Name | None = key(None, description="scheduler class in diffusers, or the pipeline's own")
    image_size: int = key(512, ge=8, le=4096, description="side in pixels at which the pipeline works")
    dtype: Literal["float32", "float16", "bfloat16"] = key("float32", description="precision of the pipeline")
    redraws: int = key(3, ge=0, le=100, description="further seeds tried for an image that comes out blank")
    shards: int = key(1, ge=1, le=10000, description="parts that may be generated side by side")

    @model_validator(mode="after")
    def _pinned(self) -> _Diffusers:
        if self.revision is None and not Path(self.model).is_dir():
            raise ValueError(
                f"{self.model!r} is no local folder, so it is a hub id: add `revision`, the commit (40 hex digits)"
            )
        return self


class TextToImage(_Diffusers):
    """A diffusers text-to-image pipeline."""

    kind: Literal["text_to_image"] = key(description="generate from prompts")


class ImageToImage(_Diffusers):
    """A diffusers image-to-image pipeline that starts from training images."""

    kind: Literal["image_to_image"] = key(description="vary the training images")
    strength: Fraction = key(0.6, description="how far from the source image (1 = all noise); the dial of diversity")


class GeneratedImages(Model):
    """The user's own generated images, one folder per class."""

    kind: Literal["image_set"] = key(description="images that you generated")
    path: LocalPath = key(description="folder with one folder per class")


Generator = Annotated[Ddpm | TextToImage | ImageToImage | GeneratedImages, Field(discriminator="kind")]
