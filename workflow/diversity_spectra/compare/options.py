"""Settings of the comparison: plain values, so that they travel as one line of JSON."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields

import numpy as np

from diversity_spectra.errors import UserError


@dataclass(frozen=True)
class Options:
    """How conditions are compared.

    bootstrap: draws for every interval. permutations: of every permutation test; all orders where there are fewer.
    level: error level of tests, and 1 - coverage of intervals. power: of the minimum detectable effects.
    similarity: cosine from which two directions are called similar (claim a); 0.3 is 9 % of the squared length.
    measures: scale-free measures that make up the vectors that are aligned.
    controls: families that serve as regularisers.
    seed: of all random draws.
    """

    bootstrap: int = 1000
    permutations: int = 2000
    level: float = 0.05
    power: float = 0.8
    similarity: float = 0.3
    measures: tuple[str, ...] = ("alpha", "stable_rank", "entropy", "mp_softrank")
    controls: tuple[str, ...] = ("dropout", "weight_decay")
    seed: int = 0

    @classmethod
    def from_json(cls, value: dict) -> Options:
        """Options from a decoded JSON object; keys left out keep their defaults. Raises `UserError` on unknown keys."""
        allowed = [field.name for field in fields(cls)]
        unknown = sorted(set(value) - set(allowed))
        if unknown:
            raise UserError(f"options: unknown {', '.join(unknown)}; allowed are {', '.join(allowed)}")
        return cls(**{key: tuple(item) if isinstance(item, list) else item for key, item in value.items()})

    def to_json(self) -> dict:
        """Plain lists, numbers and strings; `from_json` gives the same options back."""
        return {key: list(item) if isinstance(item, tuple) else item for key, item in asdict(self).items()}

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers for one purpose: a function of `seed` and the purpose's name, not of what was drawn before."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))
