"""Plain training for longer, at another rate or towards softer labels: a control of the training's progress.

Many measures of the spectra move as a training goes on. What a technique does beyond that shows only beside conditions
that change nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Rate, Settings, key, unique, written


def _changes(factor: float) -> float:
    if factor == 1:
        raise ValueError("a factor of 1 is the baseline")
    return factor


Factor = Annotated[float, Field(gt=0, le=100), AfterValidator(_changes)]


class Optimisation(Settings):
    """Changes of how the baseline is optimised, each alone."""

    steps: list[Factor] = key([], description="the recipe's steps, times each factor")
    lr: list[Factor] = key([], description="the recipe's learning rate, times each factor")
    label_smoothing: list[Rate] = key([], description="label smoothing (Szegedy et al. 2016, arXiv 1512.00567)")

    _distinct = field_validator("*")(unique)


def expand(optimisation: Optimisation, conditions: Settings) -> Iterator[Condition]:
    for kind in Optimisation.model_fields:
        for value in getattr(optimisation, kind):
            if kind == "label_smoothing":
                yield Condition(f"{kind}-{written(value)}", "optimisation", kind, value, training={kind: value})
            else:
                yield Condition(f"{kind}-{written(value)}x", "optimisation", kind, value, factors={kind: value})


FAMILY = Family(
    "optimisation", "progress", 3, expand, Optimisation, Optimisation(), "plain training, optimised otherwise",
    colour=7, marker="v",
)  # fmt: skip
