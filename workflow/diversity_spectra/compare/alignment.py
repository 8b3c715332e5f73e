"""Alignment: cosine between the shifts of two conditions, or of a condition and a family's direction."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from diversity_spectra.compare.crossfit import Shifts, cosine_intervals, cosines, permutation_p
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.shift import benjamini_hochberg


def family_weights(families: np.ndarray, family: str, without: int | None = None) -> np.ndarray:
    """Weights (C,) of the mean shift over a family's strengths, one condition left out; zeros if none remains.

    The family's direction is the mean of its path's vertices: linear in the runs, so cross-fitting stays exact, and the
    strong end counts most because its shifts are longest.
    """
    member = families == family
    if without is not None:
        member = member & (np.arange(len(families)) != without)
    return member / max(member.sum(), 1)


def opposed(
    shift: Shifts, families: np.ndarray, family: str, level: float
) -> tuple[tuple[int, int], tuple[float, float, float]] | None:
    """The two strengths of a family that move the spectra in most opposite directions, and their cosine with its interval.

    None if every cosine may be 0 or above. So do a rate that regularises and one that keeps a network from learning:
    their mean is no direction. Intervals hold for all pairs at once (Bonferroni).
    """
    pairs = np.array(list(combinations(np.flatnonzero(families == family), 2)))
    if not len(pairs):
        return None
    intervals = cosine_intervals(shift, pairs, level / len(pairs))
    worst = intervals[:, 1].argmin()
    one, other = map(int, pairs[worst])
    low, high = map(float, intervals[worst])
    return ((one, other), (float(cosines(shift.unbiased)[one, other]), low, high)) if high < 0 else None


def alignment_table(
    values: np.ndarray, group: np.ndarray, conditions: pd.DataFrame, shift: Shifts, options: Options
) -> pd.DataFrame:
    """Every condition against every control family's direction and every other condition.

    conditions: of the shifts, without the baseline, in their order. A member of a family is compared with the family
    without it. cosine: cross-fitted, cut to [-1, 1], NaN where a squared length is not positive; low, high: its
    interval; plain_cosine: with the shared noise, for comparison. p: permutation test that the condition's runs are
    exchangeable with the baseline's, by the inner product with the target;
    q: Benjamini-Hochberg over targets of one kind.
    """
    families = conditions["family"].to_numpy()
    count = len(families)
    targets: list[tuple[int, str, str, np.ndarray]] = []  # condition, kind, name, weights
    for index in range(count):
        for family in options.controls:
            targets.append((index, "family", family, family_weights(families, family, index)))
        for other in range(count):
            if other != index:
                targets.append((index, "condition", conditions["condition"].iloc[other], np.eye(count)[other]))
    targets = [target for target in targets if target[3].any()]
    if not targets:
        return pd.DataFrame()
    unique = np.unique([target[3] for target in targets], axis=0)
    unique = np.concatenate([np.eye(count), unique[(unique > 0).sum(axis=1) > 1]])
    column = {tuple(weights): index for index, weights in enumerate(unique)}
    wide = shift.combine(unique)
    pairs = np.array([(index, column[tuple(weights)]) for index, _, _, weights in targets])
    ordered = np.unique(np.sort(pairs, axis=1), axis=0)
    place = {tuple(pair): index for index, pair in enumerate(ordered)}
    at = np.array([place[tuple(pair)] for pair in np.sort(pairs, axis=1)])
    intervals = cosine_intervals(wide, ordered, options.level)[at]
    p, floor = _permutations(values, group, unique, options)
    fitted, plain = cosines(wide.unbiased), cosines(wide.plain)
    table = pd.DataFrame(
        {
            "condition": conditions["condition"].to_numpy()[pairs[:, 0]],
            "target": [name for _, _, name, _ in targets],
            "target_kind": [kind for _, kind, _, _ in targets],
            "cosine": fitted[pairs[:, 0], pairs[:, 1]],
            "low": intervals[:, 0],
            "high": intervals[:, 1],
            "plain_cosine": plain[pairs[:, 0], pairs[:, 1]],
            "p": p[pairs[:, 0], pairs[:, 1]],
            "p_floor": floor[pairs[:, 0]],
            "n": shift.n[pairs[:, 0]].astype(int),
            "n_target": (unique > 0).astype(int)[pairs[:, 1]] @ shift.n.astype(int),
            "n_baseline": shift.n_baseline,
        }
    )
    table["q"] = table.groupby("target_kind")["p"].transform(benjamini_hochberg)
    table["reason"] = np.where(table["cosine"].isna(), "not identifiable: a shift is no longer than its noise", "")
    return table


def _permutations(values: np.ndarray, group: np.ndarray, weights: np.ndarray, options: Options) -> tuple:
    """p (conditions, targets) and the smallest possible p (conditions,)."""
    count = weights.shape[1]
    mean = np.stack([values[group == index].mean(axis=0) for index in range(1, count + 1)])
    p, floor = np.empty((count, len(weights))), np.empty(count)
    rng = options.generator("alignment")
    for index in range(count):
        own, baseline = values[group == index + 1], values[group == 0]
        result, floor[index] = permutation_p(own, baseline, weights @ mean, options.permutations, rng)
        p[index] = result[1:]
    return p, floor
