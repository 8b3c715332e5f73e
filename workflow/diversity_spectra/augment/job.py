"""What stage `augment` makes: one training set for each data recipe."""

from __future__ import annotations

from typing import ClassVar, Literal

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.jobs import IMAGE_SET, Input, Job
from diversity_spectra.settings import Settings, key, written
from diversity_spectra.work import Sets, Shape, Work


class Step(Settings):
    """One augmentation."""

    kind: str = key(description="kind of augmentation")
    level: float = key(description="level, in the unit of the kind")


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
        return "+".join(parts) or "plain"


class Augment(Job):
    """A training set: the real images, transformed, with synthetic images added or in their place."""

    kind: ClassVar[str] = "augment"
    command: ClassVar[str] = "augment"
    makes: ClassVar[tuple[str, ...]] = IMAGE_SET

    recipe: DataRecipe = key(description="what is done to the images")
    copies: int = key(1, ge=1, description="variants of each image")
    seed: int = key(0, description="root of the random streams")
    images: Input[str] = key(description="real images")
    synthetic: Input[str | None] = key(None, description="synthetic images")

    def modules(self) -> tuple[str, ...]:
        return tuple(KINDS[step.kind].module for step in self.recipe.augmentations)

    def work(self, sets: Sets, results: int = 1) -> Work:
        return sets.work(" + ".join(step.kind for step in self.recipe.augmentations) or "mixing", sets.shape(self.out))

    def shape(self, sets: Sets) -> Shape | None:
        real = sets.shape(self.images)
        if real is None:
            return None
        added = round(self.recipe.synthetic * real[0]) if self.recipe.mode == "added" else 0
        return (real[0] + added) * self.copies, *real[1:]

    def classes(self, sets: Sets) -> int | None:
        return sets.classes(self.images)
