"""What a condition and a family of conditions are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from diversity_spectra.augment.job import DataRecipe
from diversity_spectra.settings import shortened

# baseline: what all others are compared with. control: a regulariser that data are compared with. progress: the same
# training carried further or less far, which regularisers and data are told from. data: other training data. other: all
# that stands in the tables and is compared with nothing.
Role = Literal["baseline", "control", "progress", "data", "other"]


@dataclass(frozen=True)
class Condition:
    """One technique, or several, at one strength. `strength` is None where the family has no single one.

    training: what of the recipe of the training is another than that of the baseline. factors: numbers of the recipe that
    are multiplied. checkpoint: the user's own weights, in whose place nothing is trained.
    """

    name: str
    family: str
    kind: str = ""
    strength: float | None = None
    training: dict[str, Any] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    data: DataRecipe = field(default_factory=DataRecipe)
    checkpoint: str | None = None

    def within(self, recipe: Any) -> Self:
        """The same with its factors worked out for a recipe; whole numbers stay whole, and at least 1."""
        numbers = {name: getattr(recipe, name) for name in self.factors}
        scaled = {
            name: max(1, round(number * self.factors[name])) if isinstance(number, int) else number * self.factors[name]
            for name, number in numbers.items()
        }
        return replace(self, training={**self.training, **scaled}, factors={})


@dataclass(frozen=True)
class Family:
    """A family of conditions, called as its key in the configuration is.

    rank: its place among the families, in tables and figures. colour: its place in seaborn's palettes. values: type of
    the key's value (None: it has no key) and default. expand: conditions of a value; the second argument is the whole
    `conditions` mapping. apart: its kinds are judged as families of their own.
    """

    name: str
    role: Role
    rank: int
    expand: Callable[[Any, Any], Iterable[Condition]]
    values: Any = None
    default: Any = None
    description: str = ""
    colour: int | None = None
    marker: str = "o"
    apart: bool = False


def joined(parts: Iterable[Condition], family: str) -> Condition:
    """Several techniques at once: their changes of the training and of the data together."""
    parts = list(parts)
    training = {name: value for part in parts for name, value in part.training.items()}
    synthetic = next((part.data for part in parts if part.data.synthetic), DataRecipe())
    steps = [step for part in parts for step in part.data.augmentations]
    data = synthetic.model_copy(update={"augmentations": steps})
    return Condition(shortened("+".join(part.name for part in parts)), family, training=training, data=data)
