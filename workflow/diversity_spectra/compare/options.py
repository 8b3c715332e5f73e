"""Settings of the comparison: plain values, so that they travel as one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from diversity_spectra.compare.features import STANDS_FOR
from diversity_spectra.compare.job import Compare
from diversity_spectra.conditions import of_role
from diversity_spectra.errors import UserError
from diversity_spectra.seeds import derive_seed
from diversity_spectra.spectra.kinds import ALIGNED, COMPARED

DEFAULT = Compare()
AT_LEAST_ONE = (lambda number: number >= 1 and number % 1 == 0, "a whole number from 1 on")
SHARE = (lambda number: 0 < number < 1, "a number between 0 and 1")
NAMES = {"measures": tuple(COMPARED), "controls": of_role("control")}
RANGES = {"bootstrap": AT_LEAST_ONE, "permutations": AT_LEAST_ONE, "level": SHARE, "power": SHARE}


@dataclass(frozen=True)
class Options:
    """How conditions are compared.

    bootstrap: draws for every interval. permutations: of every permutation test; all orders where there are fewer.
    level: error level of tests, and 1 - coverage of intervals. power: of the minimum detectable effects.
    similarity: cosine from which two directions are called the same (claim a): half of the squared length shared.
    distinct: cosine below which two controls can be told apart (claim b). relevant: smallest difference between two
    cosines that counts (claim b). own: share of the squared length from which a shift is one of its own (claim e).
    matrix: `dW`, the change of the weights in training, or `W`: what the vectors that are aligned are made of.
    measures: scale-free measures that make them up.
    controls: families that serve as regularisers.
    robustness: whether the claims are judged anew with other choices. seed: of all random draws.
    """

    bootstrap: int = DEFAULT.bootstrap
    permutations: int = DEFAULT.permutations
    level: float = DEFAULT.level
    power: float = 0.8
    similarity: float = 0.71
    distinct: float = 0.9
    relevant: float = 0.1
    own: float = 0.5
    matrix: str = DEFAULT.matrix
    measures: tuple[str, ...] = ALIGNED
    controls: tuple[str, ...] = of_role("control")
    robustness: bool = True
    seed: int = 0

    @classmethod
    def from_json(cls, value: dict) -> Options:
        """Options from a decoded JSON object; keys left out keep their defaults.

        Raises `UserError` for anything but an object, for unknown keys and names, and for numbers out of range.
        """
        if not isinstance(value, dict):
            raise UserError(f"options: {value!r} is not an object of settings")
        allowed = [field.name for field in fields(cls)]
        unknown = sorted(set(value) - set(allowed))
        if unknown:
            raise UserError(f"options: unknown {', '.join(unknown)}; allowed are {', '.join(allowed)}")
        for key, (allowed, told) in RANGES.items():
            if key in value and not (isinstance(value[key], (int, float)) and allowed(value[key])):
                raise UserError(f"options: {key} is {value[key]!r}, allowed: {told}")
        for key, known in NAMES.items():
            if unknown := [name for name in value.get(key, ()) if name not in known]:
                raise UserError(f"options: {key}: {unknown[0]!r} is not known, allowed: {', '.join(known)}")
        if value.get("matrix", "dW") not in STANDS_FOR:
            raise UserError(f"options: matrix is {value['matrix']!r}, allowed: {', '.join(STANDS_FOR)}")
        return cls(**{key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose: a function of `seed` and the purpose's name, not of what was drawn before."""
        return np.random.default_rng(derive_seed(self.seed, purpose))
