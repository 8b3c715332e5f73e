"""Techniques of other families together."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError, model_validator

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.conditions.condition import Condition, Family, joined
from diversity_spectra.conditions.families import augmentation, dropout, synthetic, weight_decay
from diversity_spectra.conditions.families.synthetic import Ratio
from diversity_spectra.settings import Positive, Rate, Settings, key


class Combination(Settings):
    """Several techniques at once."""

    dropout: Rate | None = key(None, description="dropout probability")
    weight_decay: Positive | None = key(None, description="decay")
    augmentation: dict[str, float] = key({}, description="kind: level")
    synthetic: Ratio | None = key(None, description="synthetic images added per real image")

    @model_validator(mode="after")
    def _several(self) -> Combination:
        kinds = augmentation.Augmentation
        for kind, level in self.augmentation.items():
            if kind not in KINDS:
                raise ValueError(f"unknown augmentation {kind!r}; known: {', '.join(KINDS)}")
            try:
                kinds.model_validate({kind: [level]}, strict=False)
            except ValidationError as error:
                raise ValueError(f"augmentation {kind}: {error.errors()[0]['msg']}, got {level}") from None
        parts = [self.dropout, self.weight_decay, self.synthetic, *self.augmentation.values()]
        if sum(part is not None for part in parts) < 2:
            raise ValueError("a combination needs at least two techniques")
        return self


def one(combination: Combination, conditions: Settings) -> Condition:
    """The parts in the order of their families, augmentations in that of their names."""
    parts = []
    if combination.dropout:
        parts.append(dropout.one(combination.dropout, conditions))
    if combination.weight_decay:
        parts.append(weight_decay.one(combination.weight_decay))
    parts += [augmentation.one(kind, combination.augmentation[kind]) for kind in sorted(combination.augmentation)]
    if combination.synthetic:
        parts.append(synthetic.one(combination.synthetic))
    return joined(parts, "combinations")


def expand(combinations: list[Combination], conditions: Settings) -> Iterator[Condition]:
    for combination in combinations:
        yield one(combination, conditions)


FAMILY = Family("combinations", "other", 6, expand, list[Combination], [], "techniques together", colour=9, marker="P")
