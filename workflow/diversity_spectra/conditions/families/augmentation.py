"""Classical augmentation of the training images; the kinds register themselves in `augment/kinds/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, create_model, field_validator

from diversity_spectra.augment.job import DataRecipe, Step
from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Settings, key, unique

Augmentation = create_model(
    "Augmentation",
    __base__=Settings,
    __doc__="Kinds of augmentation, each with its levels in natural units.",
    __module__=__name__,
    __validators__={"_distinct": field_validator("*")(unique)},
    **{
        name: (list[Annotated[kind.type, Field(**kind.limits)]], key([], description=kind.meaning))
        for name, kind in KINDS.items()
    },
)


def one(kind: str, level: float) -> Condition:
    data = DataRecipe(augmentations=[Step(kind=kind, level=float(level))])
    return Condition(f"augmentation-{data.name}", "augmentation", kind, float(level), data=data)


def expand(augmentation: Settings, conditions: Settings) -> Iterator[Condition]:
    for kind in KINDS:
        for level in getattr(augmentation, kind):
            yield one(kind, level)


FAMILY = Family(
    "augmentation", "data", 4, expand, Augmentation, Augmentation(), "augmentations, each alone", colour=2, marker="^"
)
