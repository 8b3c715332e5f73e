"""Dropout, a control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import field_validator

from diversity_spectra.conditions.condition import Condition, Family
from diversity_spectra.settings import Rate, Settings, key, unique, written


class Dropout(Settings):
    """Dropout (Srivastava et al. 2014)."""

    rates: list[Rate] = key(min_length=1, description="dropout probabilities")
    where: Literal["blocks", "head"] = key("blocks", description="inside the blocks too, or only before the classifier")

    _distinct = field_validator("rates")(unique)


def one(rate: float, conditions: Settings) -> Condition:
    """Dropout of this rate where the family says that it acts."""
    where = conditions.dropout.where if conditions.dropout else Dropout.model_fields["where"].default
    training = {"dropout": rate, "dropout_where": where}
    return Condition(f"dropout-{written(rate)}", "dropout", strength=rate, training=training)


def expand(dropout: Dropout | None, conditions: Settings) -> Iterator[Condition]:
    for rate in dropout.rates if dropout else ():
        yield one(rate, conditions)


FAMILY = Family("dropout", "control", 1, expand, Dropout | None, None, "dropout alone", colour=0, marker="o")
