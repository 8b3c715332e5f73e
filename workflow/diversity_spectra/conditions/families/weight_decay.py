"""Weight decay, a control."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import field_validator

from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Positive, Settings, key, unique, written


class WeightDecay(Settings):
    """Weight decay: decoupled with AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), L2 in the gradient with others."""

    values: list[Positive] = key(
        min_length=1, description="decay; with AdamW each step multiplies a matrix by 1 - lr x decay"
    )

    _distinct = field_validator("values")(unique)


def one(decay: float) -> Condition:
    name = f"weight_decay-{written(decay)}"
    return Condition(name, "weight_decay", strength=decay, training={"weight_decay": decay})


def expand(weight_decay: WeightDecay | None, conditions: Settings) -> Iterator[Condition]:
    yield from map(one, weight_decay.values if weight_decay else ())


FAMILY = Family(
    "weight_decay", "control", 2, expand, WeightDecay | None, None, "weight decay alone", colour=1, marker="s"
)
