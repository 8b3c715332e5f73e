"""What the kinds of diffusers pipelines have in common."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator, model_validator

from diversity_spectra.generate.captions import prompts_of, without_name
from diversity_spectra.generate.kind import Generator, Source
from diversity_spectra.settings import Absent, Content, Count, LocalPath, Name, key, package_folder
from diversity_spectra.work import Work

if TYPE_CHECKING:
    import torch

    from diversity_spectra.imageset import ImageSet

Adapter = Annotated[LocalPath, Field(pattern=r"\.safetensors$")]
SCHEDULER = re.compile(r"^class (?!Flax)(\w+)\(.*\bSchedulerMixin\b", re.MULTILINE)


@cache
def schedulers() -> frozenset[str]:
    """Names of diffusers' schedulers, read off its sources: importing these would import torch."""
    sources = (package_folder("diffusers") / "schedulers").glob("scheduling_*.py")
    return frozenset(name for source in sources for name in SCHEDULER.findall(source.read_text(encoding="utf-8")))


def _local(model: str) -> str | None:
    return model if Path(model).is_dir() else None


class DiffusersPipeline(Generator):
    """A pipeline from the hub at a pinned revision, or from a local folder."""

    model: Annotated[str, Content(_local)] = key(
        min_length=1, description="hub id or local folder of a diffusers pipeline"
    )
    revision: str | None = key(
        None, pattern=r"^[0-9a-f]{40}$", description="commit of the hub model (needed for a hub id)"
    )
    images_per_class: Count = key(100, description="synthetic images per class to generate")
    prompts: list[Annotated[str, Field(min_length=1)]] = key(
        ["a photo of a {name}"], min_length=1, description="templates, used in turn; each with {name}, the class"
    )
    captions: Annotated[LocalPath | None, Content()] = key(
        None,
        description="instead of prompts: captions by class (.yaml; .csv, .tsv, .jsonl of class and caption), or templates,"
        " one a line (.txt)",
    )
    words: Annotated[LocalPath | None, Content(), Absent(None)] = key(
        None,
        description="what {name} stands for where class folders are codes (n01440764: tench): .yaml, .csv or .jsonl",
    )
    lora: Annotated[Adapter | None, Content(), Absent(None)] = key(
        None, description="LoRA adapter of the pipeline, a .safetensors file (Hu et al. 2021, arXiv 2106.09685)"
    )
    textual_inversion: Annotated[Adapter | None, Content(), Absent(None)] = key(
        None, description="learned embedding of one token, a .safetensors file (Gal et al. 2022, arXiv 2208.01618)"
    )
    negative_prompt: str = key("", description="what the images shall not show")
    guidance: float = key(7.5, ge=0, le=50, description="guidance scale; lower is more diverse")
    inference_steps: int = key(30, ge=1, le=1000, description="denoising steps per image")
    scheduler: Name | None = key(None, description="scheduler class in diffusers, or the pipeline's own")
    image_size: int = key(512, ge=8, le=4096, multiple_of=8, description="side in pixels at which the pipeline works")
    dtype: Literal["float32", "float16", "bfloat16"] = key("float32", description="precision of the pipeline")
    compile: Annotated[bool, Absent(False)] = key(
        False,
        description="torch.compile of the denoiser, for long work on GPUs; differs in the last bits",
    )
    tile: Annotated[int, Absent(8), Field(ge=1, le=1024)] = key(
        8, description="images of one call on a GPU, fewer where memory lacks; other numbers differ in the last bits"
    )
    redraws: int = key(3, ge=0, le=100, description="further seeds tried for an image that comes out blank")
    shards: int = key(1, ge=1, le=10000, description="parts that may be generated side by side")

    @model_validator(mode="after")
    def _pinned(self) -> DiffusersPipeline:
        if self.revision is None and not Path(self.model).is_dir():
            raise ValueError(
                f"{self.model!r} is no local folder, so it is a hub id: add `revision`, the commit (40 hex digits)"
            )
        if Path(self.model).is_dir() and not Path(self.model, "model_index.json").is_file():
            raise ValueError(f"{self.model}: no model_index.json in it, so no pipeline that diffusers saved")
        return self

    @field_validator("prompts")
    @classmethod
    def _of_classes(cls, value: list[str]) -> list[str]:
        without_name(value)
        return value

    @field_validator("lora")
    @classmethod
    def _loadable(cls, value: str | None) -> str | None:
        if value is not None and find_spec("peft") is None:
            raise ValueError(
                "diffusers loads LoRA adapters with the package peft; add it to the environment: pip install peft"
            )
        return value

    @field_validator("scheduler")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in schedulers():
            close = ", ".join(difflib.get_close_matches(value, schedulers(), n=3))
            raise ValueError(f"diffusers has no scheduler {value!r}" + (f"; similar: {close}" if close else ""))
        return value

    def prompts_of(self, classes: Sequence[str]) -> list[list[str]]:
        """The prompts of each class. Raises `UserError` where a file has none for a class."""
        return prompts_of(self.prompts, self.captions, self.words, classes)

    def count(self, classes: int) -> int:
        return self.images_per_class * classes

    def drawing(self, made: Work) -> Work:
        calls = self.inference_steps * getattr(self, "strength", 1) * (2 if self.guidance > 1 else 1)
        kind = f"{self.model} at {self.image_size} px, {self.dtype}"
        return Work(kind, "denoisings", None if made.units is None else made.units * calls, made.size)

    def open(self, trained: str | None, real: ImageSet, seed: int, device: torch.device) -> Source:
        from diversity_spectra.generate.pipeline import Pipeline

        return Pipeline(self, real, seed, device)

    def told(self, pool_per_class: int) -> str:
        revision = f", revision {self.revision}" if self.revision else ""
        adapters = ", ".join(Path(adapter).name for adapter in (self.lora, self.textual_inversion) if adapter)
        revision += f", adapted by {adapters}" if adapters else ""
        prompts = [f"“{prompt}”" for prompt in self.prompts]
        listed = " and ".join(filter(None, [", ".join(prompts[:-1]), prompts[-1]]))
        said = f"Captions: {self.captions}" if self.captions else f"Prompts: {listed}"
        return (
            f"{self.images_per_class} images per class {self.way} with {self.model}{revision}: a pretrained model, which "
            f"brings outside information. {said}; guidance {self.guidance:g}, {self.inference_steps} steps."
        )

    @property
    def way(self) -> str:
        """Where its images start from, in words."""
        raise NotImplementedError
