"""Generated images in the training set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from diversity_spectra.augment.job import DataRecipe
from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Settings, key, unique

Ratio = Annotated[float, Field(gt=0, le=100)]


class Synthetic(Settings):
    """Synthetic images in the training set; the number of optimiser steps stays the same."""

    ratios: list[Ratio] = key(min_length=1, description="synthetic images per real image")
    mode: Literal["added", "replaced"] = key(
        "added", description="`added` to the real images, or `replaced`: so large a share of the real images gives way"
    )

    _distinct = field_validator("ratios")(unique)

    @model_validator(mode="after")
    def _share(self) -> Synthetic:
        if self.mode == "replaced" and max(self.ratios) > 1:
            raise ValueError(f"mode `replaced` needs ratios up to 1, got {max(self.ratios)}")
        return self


def one(ratio: float, mode: str = "added") -> Condition:
    data = DataRecipe(synthetic=ratio, mode=mode)
    return Condition(data.name, "synthetic", mode, ratio, data=data)


def expand(synthetic: list[Synthetic], conditions: Settings) -> Iterator[Condition]:
    for entry in synthetic:
        for ratio in entry.ratios:
            yield one(ratio, entry.mode)


FAMILY = Family(
    "synthetic", "data", 5, expand, list[Synthetic], [], "synthetic images, each entry alone", colour=4, marker="D",
    apart=True,
)  # fmt: skip
