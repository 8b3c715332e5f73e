"""What a kind of measures is, and what it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from diversity_spectra.column import Column
from diversity_spectra.seeds import derive_seed
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.options import Options

WEIGHTWATCHER = "convention `weightwatcher`"
STRICT = "convention `strict`"
STRICT_OR_MP = "strict, or `--mp`"
RANDOMIZE = "`--randomize`"


@dataclass(frozen=True)
class Measure(Column):
    """A column of the table of spectra, and how it is compared.

    source: by default the function `measure` of its module. label: its name in figures; what has one is compared between
    conditions. log: compared as log10. scale: the power of |W| that it grows with, on the log10 scale; "alpha" = 2 alpha.
    holds: the column that says whether a row's value may be used; of a layer the measure is compared where all runs say so.
    aligned: it is part of the vectors whose directions are compared; these must not depend on |W|. beside: it could be, and
    the verdicts with it stand among the other choices of analysis.
    """

    source: str = ""
    label: str = ""
    log: bool = False
    scale: float | str = 0.0
    holds: str = ""
    aligned: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Spectrum:
    """What a row is about.

    values: (n,) ascending eigenvalues of all matrices of the row, not all zero.
    parts: the matrices themselves.
    floor: eigenvalues up to here cannot be told from zero at the precision of the stored weights.
    options: which of the optional columns are wanted.
    names: layer and matrix, from which seeds derive.
    pretrained: k leading singular vectors, on the longer and the shorter side, of the matrix that training started from;
        None where they are not known, or are not wanted.
    """

    values: np.ndarray
    parts: list[Combination]
    floor: float = 0.0
    options: Options = field(default_factory=Options)
    names: tuple[str, str] = ("", "W")
    pretrained: Callable[[int], tuple[np.ndarray, np.ndarray] | None] | None = None

    @cached_property
    def above(self) -> np.ndarray:
        """The eigenvalues that can be told from zero; their number is the rank."""
        return self.values[self.values > self.floor]

    def generator(self, purpose: str) -> np.random.Generator:
        return generator(self.options.seed, *self.names, purpose)


@dataclass(frozen=True)
class Kind:
    """Measures that are computed together.

    rank: place of their columns. measures: by name; `{a,b}_c` stands for `a_c` and `b_c`. measure: their values, those that
    are known, and `reason` where some are not. least: eigenvalues above rounding error that it takes. failed: column and
    value by which the convention `weightwatcher` marks a fit that failed.
    """

    rank: int
    measures: dict[str, Measure]
    measure: Callable[[Spectrum], dict]
    least: int = 2
    failed: tuple[str, object] | None = None


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and on names (layer, matrix, purpose), never on the order of layers."""
    return np.random.default_rng(derive_seed(seed, *names))
