"""Images that the user generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from diversity_spectra.data.job import ImageTree
from diversity_spectra.data.tree import counts
from diversity_spectra.generate.kind import Generator, Source
from diversity_spectra.settings import key
from diversity_spectra.work import Work

if TYPE_CHECKING:
    import torch

    from diversity_spectra.imageset import ImageSet


class GeneratedImages(Generator):
    """The user's own generated images, one folder per class."""

    short: ClassVar[str] = "given by the user"
    on_device: ClassVar[bool] = False

    kind: Literal["image_set"] = key(description="images that you generated")
    path: ImageTree = key(description="folder with one folder per class")

    def count(self, classes: int) -> int:
        return sum(counts(Path(self.path)).values())

    def drawing(self, made: Work) -> Work:
        return Work(f"given images{made.kind}", made.unit, made.units, made.size)

    def open(self, trained: str | None, real: ImageSet, seed: int, device: torch.device) -> Source:
        from diversity_spectra.generate.given import Given

        return Given(self.path, real, seed)

    def told(self, pool_per_class: int) -> str:
        return f"Images given by the user ({self.path}); what their generator had seen is not known to the workflow."


KIND = GeneratedImages
