"""Splits by class without overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diversity_spectra.data.tree import share
from diversity_spectra.errors import UserError
from diversity_spectra.seeds import derive_seed


def stratified(
    labels: np.ndarray, sizes: Sequence[int | float | None], seed: int, classes: Sequence[str]
) -> list[np.ndarray]:
    """Disjoint, sorted index arrays: `sizes[k]` images of every class, or that fraction of each class where it is a float.

    labels (N,). None takes all that is left. The images of a class are shuffled by a seed of that class, so adding a class
    moves no other's images. Raises `UserError` if a class has too few images.
    """
    parts: list[list[np.ndarray]] = [[] for _ in sizes]
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        counts = [share(size, len(members)) if isinstance(size, float) else size for size in sizes]
        needed = sum(count or 0 for count in counts)
        if len(members) < max(needed, 1):
            raise UserError(
                f"class {name!r} has {len(members)} images, the split takes {max(needed, 1)} of every class"
            )
        members = np.random.default_rng(derive_seed(seed, "split", name)).permutation(members)
        start = 0
        for part, count in zip(parts, counts, strict=True):
            stop = len(members) if count is None else start + count
            part.append(members[start:stop])
            start = stop
    return [np.sort(np.concatenate(part)) for part in parts]
