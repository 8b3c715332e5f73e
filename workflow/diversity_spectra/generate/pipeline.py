"""Text-to-image and image-to-image pipelines of diffusers as sources of synthetic images.

A pipeline comes from a local folder or from the hub at a pinned revision, as safetensors, and never runs code of its
own. Every image has a generator seeded for it; blank images, which safety checkers return, are drawn again with further
seeds a bounded number of times, and counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from diversity_spectra.data.folder import fitted
from diversity_spectra.data.job import Fit
from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.generate.kind import Generator
from diversity_spectra.generate.sources import is_blank, pixels
from diversity_spectra.imageset import ImageSet
from diversity_spectra.seeds import derive_seed

if TYPE_CHECKING:
    import diffusers

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Pipeline:
    """A diffusers pipeline that draws image i of class i modulo the number of classes."""

    def __init__(self, settings: Generator, real: ImageSet, seed: int, device: torch.device):
        # The last bits of a matrix product depend on the batch it is in, so every call has the same size.
        self.tile = 1 if device.type == "cpu" else settings.tile
        self.settings, self.real, self.seed = settings, real, seed
        self.classes = real.classes
        self.prompts = settings.prompts_of(self.classes)
        self.of_class = [np.flatnonzero(real.labels == label) for label in range(len(self.classes))]
        self.pipeline = _open(settings, device)

    def count(self, real: ImageSet) -> int:
        return self.settings.count(len(real.classes))

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        rows = [self._row(int(index)) for index in indices]
        images = np.zeros((len(rows), *self.real.images.shape[1:]), np.uint8)
        blank = list(range(len(rows)))
        for redraw in range(self.settings.redraws + 1):
            for position in blank:
                rows[position]["seed"] = derive_seed(self.seed, "generate", rows[position]["index"], redraw)
                rows[position]["redraws"] = redraw
            # Together over all tiles: a tile costs the same with one image to draw again as with many.
            for start in range(0, len(blank), self.tile):
                together = blank[start : start + self.tile]
                for position, image in zip(together, self._call([rows[each] for each in together]), strict=True):
                    images[position] = fit(Image.fromarray(image), images.shape[1:])
                    empty = is_blank(image)
                    rows[position].update(kept=not empty, reason="blank" if empty else "")
            blank = [position for position in blank if not rows[position]["kept"]]
        if blank:
            log.warning("%d images stayed blank after %d redraws", len(blank), self.settings.redraws)
        return images, rows

    def _row(self, index: int) -> dict:
        label = index % len(self.classes)
        turn = index // len(self.classes)
        prompts = self.prompts[label]
        row = {
            "index": index,
            "label": label,
            "class": self.classes[label],
            "prompt": prompts[turn % len(prompts)],
            "model": self.settings.model,
            "revision": self.settings.revision or "local",
        }
        if self.settings.kind == "image_to_image":
            row["source"] = int(self.of_class[label][turn % len(self.of_class[label])])
        return row

    def _call(self, rows: list[dict]) -> list[np.ndarray]:
        """Images (H, W, 3) uint8 of the pipeline for these rows, at most a tile, in one call that is filled up to it."""
        wanted, rows = len(rows), [rows[position % len(rows)] for position in range(self.tile)]
        size = self.settings.image_size
        options: dict = {
            "prompt": [row["prompt"] for row in rows],
            "negative_prompt": [self.settings.negative_prompt] * len(rows),
            "guidance_scale": self.settings.guidance,
            "num_inference_steps": self.settings.inference_steps,
            "generator": [torch.Generator("cpu").manual_seed(row["seed"]) for row in rows],
            "output_type": "np",
        }
        if self.settings.kind == "image_to_image":
            sources = [_enlarged(self.real.images[row["source"]], size) for row in rows]
            options |= {"image": sources, "strength": self.settings.strength}
        else:
            options |= {"height": size, "width": size}
        try:
            result = self.pipeline(**options).images[:wanted]
        except (ValueError, TypeError, IndexError) as error:  # what pipelines raise on settings that they do not take
            raise UserError(f"generator: {self.settings.model}: {str(error).splitlines()[0]}") from None
        except torch.OutOfMemoryError:
            raise UserError(
                f"generator: out of memory on the device with {self.tile} images in a call: lower generator.tile"
            ) from None
        return [pixels(image) for image in result]


def fit(picture: Image.Image, shape: tuple[int, int, int], way: Fit = "crop") -> np.ndarray:
    """A picture in RGB at `shape` (s, s, c), by the filter of the real images; grey where c is 1."""
    return fitted(picture.convert("L") if shape[2] == 1 else picture, shape[0], way)


def _enlarged(image: np.ndarray, size: int) -> Image.Image:
    picture = Image.fromarray(np.asarray(image).squeeze() if image.shape[2] == 1 else np.asarray(image))
    return picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)


def _open(settings: Generator, device: torch.device):
    import diffusers

    maker = {
        "text_to_image": diffusers.AutoPipelineForText2Image,
        "image_to_image": diffusers.AutoPipelineForImage2Image,
    }[settings.kind]
    try:
        pipeline = maker.from_pretrained(
            settings.model,
            revision=settings.revision,
            dtype=DTYPES[settings.dtype],
            use_safetensors=True,
            local_files_only=Path(settings.model).is_dir(),
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"generator.model {settings.model}: cannot be loaded ({str(error).splitlines()[0]})") from None
    _adapt(pipeline, settings)
    if settings.scheduler:
        pipeline.scheduler = getattr(diffusers, settings.scheduler).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    # Decoding a whole batch at once takes many times the memory of all the rest.
    if hasattr(getattr(pipeline, "vae", None), "enable_slicing"):
        pipeline.vae.enable_slicing()
    pipeline.to(device)
    denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if denoiser and device.type == "cuda":
        denoiser.to(memory_format=torch.channels_last)  # in which its convolutions are faster
    if settings.compile:
        if not denoiser:
            raise UserError(f"generator.compile: {settings.model} has neither a unet nor a transformer")
        denoiser.compile()
    return pipeline


def _adapt(pipeline: diffusers.DiffusionPipeline, settings: Generator) -> None:
    """Load the adapters of the settings. Raises `UserError` for one that does not fit the pipeline."""
    for name, loader in (("lora", "load_lora_weights"), ("textual_inversion", "load_textual_inversion")):
        if path := getattr(settings, name):
            try:
                getattr(pipeline, loader)(path, use_safetensors=True, local_files_only=True)
            except Exception as error:  # the loaders raise many kinds
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UserError(f"generator.{name} {path}: does not fit {settings.model} ({reason})") from None
    if settings.lora and not pipeline.get_list_adapters():  # then diffusers has only warned
        raise UserError(f"generator.lora {settings.lora}: does not fit {settings.model}, none of its layers is there")
