"""What a kind of generator is: its settings, and all that the rest of the workflow asks of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from diversity_spectra.settings import Settings
from diversity_spectra.work import Shape, Work

if TYPE_CHECKING:
    import numpy as np
    import torch

    from diversity_spectra.imageset import ImageSet
    from diversity_spectra.resume import Resume


class Source(Protocol):
    """Draws images by index."""

    tile: int  # images that take the same time as one

    def count(self, real: ImageSet) -> int:
        """Images that it gives."""

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        """Images (n, H, W, C) uint8, and one manifest row each: index, label, class, prompt, kept, reason, its seed
        where it was drawn here, and what made it."""


class Generator(Settings):
    """A source of synthetic images. short: what it is, in the overview of several experiments.

    trained: whether the workflow trains it first. on_device: whether drawing has a use for a GPU. Two parts of the settings
    are told apart: what training reads, and what drawing does.
    """

    short: ClassVar[str]
    trained: ClassVar[bool] = False
    on_device: ClassVar[bool] = True

    @property
    def parts(self) -> int:
        """Shards that may be drawn side by side."""
        return getattr(self, "shards", 1)

    def for_training(self) -> Self:
        raise NotImplementedError

    def for_drawing(self) -> Self:
        return self.model_copy(update={"shards": 1}) if "shards" in type(self).model_fields else self

    def count(self, classes: int) -> int:
        """Images that it gives for so many classes."""
        raise NotImplementedError

    def drawing(self, made: Work) -> Work:
        """The work of drawing the images that `made` is the making of."""
        raise NotImplementedError

    def training(self, shape: Shape | None) -> Work:
        """The work of training it on a set of that shape."""
        raise NotImplementedError

    def train(self, images: ImageSet, seed: int, device: torch.device, resume: Resume, folder: Path) -> None:
        """Train it and leave what drawing needs in `folder`."""
        raise NotImplementedError

    def open(self, trained: str | None, real: ImageSet, seed: int, device: torch.device) -> Source:
        """Ready to draw; trained: folder of the trained generator."""
        raise NotImplementedError

    def told(self, pool_per_class: int) -> str:
        """What the report says of it, in a sentence or two, and whether outside information comes with it."""
        raise NotImplementedError
