"""Names of conditions dealt out anew to the runs: what a statistic gives where the names mean nothing.

Where no condition has an effect, the runs of one seed are exchangeable, so the statistic of the runs as they are is one
draw from its values over all relabellings within seeds: an exact test (Fisher 1935; Pitman 1937), whatever the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import comb

import numpy as np

ALL = 20_000  # so many relabellings are gone through one by one


def divisions(sizes: Sequence[int]) -> int:
    """In how many ways sum(sizes) runs can be dealt to groups of these sizes."""
    left, product = sum(sizes), 1
    for size in sizes:
        product *= comb(left, size)
        left -= size
    return product


def orders(group: np.ndarray, seed: np.ndarray, draws: int, generator: np.random.Generator) -> tuple[np.ndarray, bool]:
    """Relabellings (draws, runs): which run stands in whose place; the first is the runs as they are.

    group (runs,): runs of one group stand for each other. seed (runs,): runs are exchanged within a seed. Second: whether
    these are all relabellings, as they are where all runs have one seed and there are at most `ALL`.
    """
    sizes = np.bincount(group)
    if len(np.unique(seed)) == 1 and divisions(sizes) <= ALL:
        given = np.argsort(group, kind="stable")
        found = np.empty((divisions(sizes), len(group)), dtype=int)
        found[:, given] = given[dealt(tuple(map(int, sizes)))]
        return found, True
    place = np.argsort(seed, kind="stable")
    keys = np.unique(seed, return_inverse=True)[1] + generator.random((draws, len(seed)))
    found = np.empty((draws, len(seed)), dtype=int)
    found[:, place] = np.argsort(keys, axis=1)
    found[0] = np.arange(len(seed))
    return found, False


@cache
def dealt(sizes: tuple[int, ...]) -> np.ndarray:
    """All ways (divisions, runs) to put sum(sizes) runs into groups of these sizes, one after another; in order first."""
    runs = sum(sizes)
    if len(sizes) == 1:
        return np.arange(runs)[None]
    others = dealt(sizes[1:])
    parts = []
    for chosen in combinations(range(runs), sizes[0]):
        rest = np.delete(np.arange(runs), chosen)
        parts.append(np.hstack([np.tile(chosen, (len(others), 1)), rest[others]]))
    return np.concatenate(parts)


def share_at_least(values: np.ndarray) -> float:
    """Share of relabellings (draws,) whose statistic is at least that of the first, which is the one observed.

    Valid as a p value: of equally likely draws, the observed one among them. NaN where the observed one is.
    """
    if not np.isfinite(values[0]):
        return np.nan
    tolerance = 1e-9 * max(abs(values[0]), 1e-300)  # relabellings that change nothing differ in last bits
    return float(np.mean(np.nan_to_num(values, nan=-np.inf) >= values[0] - tolerance))
