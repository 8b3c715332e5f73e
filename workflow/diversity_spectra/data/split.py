"""Class-balanced splits without overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.seeds import derive_seed


def stratified(labels: np.ndarray, sizes: Sequence[int | None], seed: int, classes: Sequence[str]) -> list[np.ndarray]:
    """Disjoint, sorted index arrays with `sizes[k]` images of every class each; None takes all that is left.

    labels (N,). The images of a class are shuffled by a seed of that class, so adding a class moves no other's images.
    Raises `UserError` if a class has too few images.
    """
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        needed = sum(size or 0 for size in sizes)
        if len(members) < max(needed, 1):
            raise UserError(
                f"class {name!r} has {len(members)} images, the split takes {max(needed, 1)} of every class"
            )
        members = np.random.default_rng(derive_seed(seed, "split", name)).permutation(members)
        start = 0
        for part, size in zip(parts, sizes, strict=True):
            stop = len(members) if size is None else start + size
            part.append(members[start:stop])
            start = stop
    return [np.sort(np.concatenate(part)) for part in parts]
