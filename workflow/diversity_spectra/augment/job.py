"""What stage `augment` makes: one training set for each data recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import PlainValidator, WithJsonSchema, field_validator

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.jobs import IMAGE_SET, Input, Job, read_record
from diversity_spectra.settings import Aside, Settings, key, shortened, shown, written
from diversity_spectra.work import Sets, Shape, Work

STORED_BYTES = 20 * 10**9  # of images: a set that is larger is not stored unless that is asked for
MOST_COPIES = 1000


def _copies(value: object) -> object:
    if value != "fresh" and not (type(value) is int and 1 <= value <= MOST_COPIES):
        raise ValueError(f"{shown(value)} is not allowed; allowed: a number from 1 to {MOST_COPIES}, or fresh")
    return value


Copies = Annotated[
    Any,
    PlainValidator(_copies),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_COPIES}, {"const": "fresh", "type": "string"}]}
    ),
]
Materialise = Literal["auto", "always", "never"]


class Step(Settings):
    """One augmentation."""

    kind: str = key(description="kind of augmentation")
    level: float = key(description="level, in the unit of the kind")

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"no augmentation {value!r}; known here: {', '.join(sorted(KINDS))}")
        return value


class DataRecipe(Settings):
    """What is done to the training images."""

    augmentations: list[Step] = key([], description="one after another")
    synthetic: float = key(0.0, ge=0, description="synthetic images per real image")
    mode: Literal["added", "replaced"] = key("added", description="whether real images give way to synthetic ones")

    @property
    def name(self) -> str:
        """Name of the training set; `plain` for the real images as they are."""
        parts = [f"{step.kind}-{written(step.level)}" for step in self.augmentations]
        if self.synthetic:
            parts.append(f"synthetic-{'replaced-' * (self.mode == 'replaced')}{written(self.synthetic)}")
        return shortened("+".join(parts)) or "plain"


class Augment(Job):
    """A training set: the real images, transformed, with synthetic images added or in their place.

    Its images are stored, or made whenever they are read: large ones, and fresh variants, of which no epoch has the same.
    """

    kind: ClassVar[str] = "augment"
    command: ClassVar[str] = "augment"
    makes: ClassVar[tuple[str, ...]] = tuple(name for name in IMAGE_SET if name != "images.npy")
    threaded: ClassVar[bool] = True

    recipe: DataRecipe = key(description="what is done to the images")
    copies: Copies = key(1, description="variants of each image; fresh: a new one in every epoch")
    materialise: Aside[Materialise] = key("auto", description="whether the images are stored")
    seed: int = key(0, description="root of the random streams")
    images: Input[str] = key(description="real images")
    synthetic: Input[str | None] = key(None, description="synthetic images")

    def modules(self) -> tuple[str, ...]:
        return tuple(KINDS[step.kind].module for step in self.recipe.augmentations)

    def options(self, execution: dict) -> dict[str, object]:
        return {"--save-every": execution["save_every"]}

    def stored(self, size: int) -> bool:
        """Whether images of so many bytes are stored. Fresh ones cannot be: there is no end of them."""
        if self.copies == "fresh" or self.materialise == "never":
            return False
        return self.materialise == "always" or size <= STORED_BYTES

    def behind(self) -> dict[str, tuple[str, ...]]:
        there = read_record(self.out) is not None and not Path(self.out, "images.npy").exists()
        return self.reads() if there else {}

    def work(self, sets: Sets, results: int = 1) -> Work:
        shape = sets.shape(self.out)
        stored = shape is None or self.stored(sets.bytes(shape))
        kinds = " + ".join(step.kind for step in self.recipe.augmentations) or "mixing"
        return sets.work(kinds if stored else "made when read", shape, stored)

    def shape(self, sets: Sets) -> Shape | None:
        real = sets.shape(self.images)
        if real is None:
            return None
        # The ratio is taken of each class: of equal classes this is exact, of others nearly so.
        classes = sets.classes(self.images) or 1
        added = classes * round(self.recipe.synthetic * real[0] / classes) if self.recipe.mode == "added" else 0
        return (real[0] + added) * (1 if self.copies == "fresh" else self.copies), *real[1:]

    def classes(self, sets: Sets) -> int | None:
        return sets.classes(self.images)
