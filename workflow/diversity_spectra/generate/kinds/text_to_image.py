"""A text-to-image pipeline of diffusers."""

from __future__ import annotations

from typing import ClassVar, Literal

from diversity_spectra.generate.diffusers_pipeline import DiffusersPipeline
from diversity_spectra.settings import key


class TextToImage(DiffusersPipeline):
    """A diffusers text-to-image pipeline."""

    short: ClassVar[str] = "a pretrained model, from prompts"
    way: ClassVar[str] = "from prompts"

    kind: Literal["text_to_image"] = key(description="generate from prompts")


KIND = TextToImage
