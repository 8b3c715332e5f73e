"""An image-to-image pipeline of diffusers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from diversity_spectra.generate.diffusers_pipeline import DiffusersPipeline
from diversity_spectra.settings import Fraction, key


class ImageToImage(DiffusersPipeline):
    """A diffusers image-to-image pipeline that starts from training images."""

    short: ClassVar[str] = "a pretrained model, from training images"

    kind: Literal["image_to_image"] = key(description="vary the training images")
    strength: Fraction = key(0.6, description="how far from the source image (1 = all noise); the dial of diversity")

    @model_validator(mode="after")
    def _some_steps(self) -> ImageToImage:
        if int(self.strength * self.inference_steps) < 1:
            raise ValueError(
                f"strength {self.strength:g} of {self.inference_steps} inference_steps is no step at all; raise one of them"
            )
        return self

    @property
    def way(self) -> str:
        return f"from training images (strength {self.strength:g})"


KIND = ImageToImage
