"""Classical augmentation of the training images; the kinds register themselves in `augment/kinds/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, TypeAdapter, create_model, field_validator

from diversity_spectra.augment.job import DataRecipe, Step
from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Settings, key, unique

Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
Levels = Annotated[dict[str, float], Field(min_length=2)]


def _chain(levels: dict[str, float]) -> dict[str, float]:
    """Of known kinds, each within its limits. Raises ValueError otherwise."""
    for name, level in levels.items():
        if name not in KINDS:
            raise ValueError(f"no augmentation {name!r}; known: {', '.join(KINDS)}")
        TypeAdapter(Annotated[float, Field(**KINDS[name].limits)]).validate_python(level)
    return levels


def _named(composed: dict[str, dict]) -> dict[str, dict]:
    if kinds := sorted(set(composed) & set(KINDS)):
        raise ValueError(f"{kinds[0]!r} is a kind of augmentation; call the composed one otherwise")
    return composed


Composed = Annotated[dict[Label, Annotated[Levels, AfterValidator(_chain)]], AfterValidator(_named)]

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
    composed=(Composed, key({}, description="several kinds one after another, by a name: {name: {kind: level, ...}}")),
)


def one(kind: str, level: float) -> Condition:
    data = DataRecipe(augmentations=[Step(kind=kind, level=float(level))])
    return Condition(f"augmentation-{data.name}", "augmentation", kind, float(level), data=data)


def expand(augmentation: Settings, conditions: Settings) -> Iterator[Condition]:
    for kind in KINDS:
        for level in getattr(augmentation, kind):
            yield one(kind, level)
    for name, levels in augmentation.composed.items():
        steps = [Step(kind=kind, level=float(level)) for kind, level in levels.items()]
        yield Condition(f"augmentation-{name}", "augmentation", name, data=DataRecipe(augmentations=steps))


FAMILY = Family(
    "augmentation", "data", 4, expand, Augmentation, Augmentation(), "augmentations, each alone", colour=2, marker="^"
)
