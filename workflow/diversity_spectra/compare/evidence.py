"""What claims are judged from, and what a judgement is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
import pandas as pd

from diversity_spectra.compare.alignment import family_weights, opposed
from diversity_spectra.compare.benefits import Benefits
from diversity_spectra.compare.beyond import (
    Geometry,
    clear,
    first_run,
)
from diversity_spectra.compare.controls import groups_of
from diversity_spectra.compare.crossfit import Shifts
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import of_role

SUPPORTED, CONTRADICTED, INCONCLUSIVE, MIXED = "supported", "contradicted", "inconclusive", "mixed"
DATA_FAMILIES, PROGRESS = of_role("data"), of_role("progress")


class Missing(StrEnum):
    """What stands in the way of a verdict."""

    NO_SHIFT = "no_shift"  # the baseline needs runs, and some condition at least two
    NO_DATA_CONDITION = "no_data_condition"
    NO_CONTROL = "no_control"  # family
    LEFT_OUT = "left_out"  # family, of whose runs too few measures could be computed
    NOT_DETECTED = "not_detected"  # family, q, p_floor, smallest_detectable
    OPPOSED = "opposed"  # family, strengths of it that move the spectra in opposite directions, their cosine
    NO_OPTIMISATION = "no_optimisation"
    OPTIMISATION_NOT_DETECTED = "optimisation_not_detected"
    DATA_NOT_DETECTED = "data_not_detected"  # q of every family of data
    NOT_SEPARABLE = "not_separable"  # family: nothing of it is left beyond optimisation
    ALIKE = "alike"  # cosine of the controls, the bound that it had to be below
    NO_SYNTHETIC_OR_NO_AUGMENTATION = "no_synthetic_or_no_augmentation"
    NO_OOD_ACCURACY = "no_ood_accuracy"
    NO_CURVE = "no_curve"  # of at least two synthetic amounts
    NO_ACCURACY = "no_accuracy"
    NO_NOISE = "no_noise"  # no condition has two runs that differ in test accuracy


# Where nothing else is missing, the experiment was not meant to ask.
NOT_RUN = {
    Missing.NO_DATA_CONDITION,
    Missing.NO_CONTROL,
    Missing.NO_OPTIMISATION,
    Missing.NO_SYNTHETIC_OR_NO_AUGMENTATION,
    Missing.NO_CURVE,
}


@dataclass(frozen=True)
class Judgement:
    """What the data say of a claim.

    n: runs that the estimate rests on; 0 where there is none. asked: whether the experiment has
    the conditions that the claim is about. details: the facts behind the verdict, named in docs/method.md; intervals are
    triples, and `missing` lists what stands in the way, each with a `code` of `Missing`; alone where nothing is estimated.
    """

    effect: float
    low: float
    high: float
    n: int
    verdict: str
    asked: bool = True
    details: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged from, for one model. conditions: baseline first. shift: None if there is none.

    moved: corrected p, by family of data and for `optimisation`, that its conditions do nothing. projected: of
    `beyond.PATHS`, the first that was run is projected out; if none is named, nothing is. left_out: families all of whose
    runs are left out of the shifts.
    """

    conditions: pd.DataFrame
    shift: Shifts | None
    controls: pd.DataFrame
    moved: dict[str, float]
    benefits: Benefits
    diversity: pd.DataFrame
    options: Options
    projected: tuple[str, ...] = ("both", "length", "rate")
    left_out: frozenset[str] = frozenset()

    @cached_property
    def plain(self) -> Geometry:
        return Geometry(self.shift.unbiased, self.shift.draws())

    @cached_property
    def beyond(self) -> Geometry | None:
        """Shifts with all that there is of length and rate projected out; None where optimisation moves nothing."""
        if not self.projected:
            return self.plain
        return None if self.shift is None or self.why_not_beyond else self.plain.beyond(self.path)

    @property
    def path(self) -> np.ndarray | None:
        return first_run(self.conditions.iloc[1:], self.projected)

    @property
    def why_not_beyond(self) -> Missing | None:
        if self.path is None:
            return Missing.NO_OPTIMISATION
        seen = min(self.moved.get(name, 1.0) for name in PROGRESS) < self.options.level
        return None if seen and clear(self.plain, self.path, self.options.level) else Missing.OPTIMISATION_NOT_DETECTED

    def moving(self) -> dict[str, np.ndarray]:
        """The families of data that are detected, with their shifts (C,)."""
        groups = groups_of(self.conditions.iloc[1:], "data")
        return {name: own for name, own in groups.items() if self.moved.get(name, 1.0) < self.options.level}

    def direction(self, family: str) -> np.ndarray:
        """Weights (C,) of a control family's direction."""
        return family_weights(self.conditions["family"].to_numpy()[1:], family)

    def runs(self, *weights: np.ndarray) -> int:
        """Runs behind combinations of shifts with these weights (C,), the baseline's and those of the path among them."""
        path = [] if self.path is None else list(self.path)
        used = np.any([own != 0 for own in [*weights, *path]], axis=0)
        return int(self.shift.n_baseline + self.shift.n[used].sum())

    def members(self, *families: str) -> pd.DataFrame:
        return self.conditions[self.conditions["family"].isin(families)]

    def detected(self, family: str) -> bool:
        """Is the control family, over all its strengths, beyond the noise floor?"""
        if self.controls.empty:
            return False
        row = self.controls[(self.controls["family"] == family) & (self.controls["condition"] == "")]
        return bool(row["detected"].any())

    def usable(self, family: str) -> bool:
        """Is the control family detected, and has it one direction?"""
        return self.detected(family) and not self.opposed(family)

    def opposed(self, family: str) -> dict:
        """Two strengths of a family that move the spectra in opposite directions, and their cosine; empty if none do."""
        return self._opposed.get(family, {})

    @cached_property
    def _opposed(self) -> dict[str, dict]:
        families = self.conditions["family"].to_numpy()[1:]
        found = {}
        for family in self.options.controls if self.shift else ():
            if pair := opposed(self.shift, families, family, self.options.level):
                strengths = self.conditions["strength"].iloc[1:].iloc[list(pair[0])]
                found[family] = {"strengths": [float(strength) for strength in strengths], "cosine": pair[1]}
        return found
