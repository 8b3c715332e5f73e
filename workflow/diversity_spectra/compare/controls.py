"""Positive controls: do the reference regularisers move the spectra at all, and what could have been seen?"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import factorial, gammaln

from diversity_spectra.compare.crossfit import Shifts, permutation_omnibus, permutation_p, shifts
from diversity_spectra.compare.noise import Noise, fit
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.shift import benjamini_hochberg
from diversity_spectra.conditions import FAMILIES, Role, of_role

ENOUGH = 20  # orders for each unit of 1 / level, so that corrections over families leave a test its power


def control_table(
    values: np.ndarray, group: np.ndarray, seed: np.ndarray, conditions: pd.DataFrame, shift: Shifts, noise: Noise,
    options: Options,
) -> pd.DataFrame:  # fmt: skip
    """One row per control family (condition empty) and one per strength.

    values (runs, features) in noise standard deviations. effect: root mean square over features of the shift in noise
    standard deviations, from its cross-fitted squared length (0 where that is negative); of a family, its largest.
    smallest_detectable: the effect seen with probability `options.power`; of a family, by its joint test if a single
    strength, the noisiest, has that effect; NaN where p cannot fall below the level. p: permutation test of the squared
    length; of a family, of the sum over its strengths, with the labels of all its runs and the baseline's permuted, as
    `blocks` says.
    p_floor: the least p that so few runs, or so few permutations, can give. q: Benjamini-Hochberg over the families of
    the model, and over the single strengths: many strengths with high floors cannot hide a family.
    """
    features = values.shape[1]
    rng = options.generator("controls")
    rows = []

    def detectable(null: np.ndarray, variance: float, floor: float) -> float:
        seen = smallest_length(null, variance, options) if floor < options.level else np.nan
        return seen / np.sqrt(features)

    for family in options.controls:
        members = conditions.index[conditions["family"] == family].to_numpy()
        if not len(members):
            continue
        singles = []
        variances = noise.factor[members] / shift.n[members - 1] + noise.factor[0] / shift.n_baseline
        for index, variance in zip(members, variances, strict=True):
            own, baseline = values[group == index], values[group == 0]
            p, _ = permutation_p(own, baseline, np.zeros((0, features)), options.permutations, rng)
            labels = np.repeat([1, 0], [len(own), len(baseline)])
            floor = least_p(np.zeros(len(labels)), labels, options)
            length = shift.unbiased[index - 1, index - 1]
            null = shift.square[:, index - 1, index - 1]
            singles.append(
                {
                    "family": family,
                    "condition": conditions["condition"][index],
                    "strength": conditions["strength"][index],
                    "squared_length": length,
                    "effect": np.sqrt(max(length, 0.0) / features),
                    "smallest_detectable": detectable(null, variance, floor),
                    "p": p[0],
                    "p_floor": floor,
                    "n": int(shift.n[index - 1]),
                }
            )
        joint, floor = _joint_p(values, group, seed, members, options, rng)
        null = shift.square[:, members - 1, members - 1].sum(axis=1)
        whole = {
            "family": family,
            "condition": "",
            "strength": np.nan,
            "squared_length": sum(row["squared_length"] for row in singles),
            "effect": max(row["effect"] for row in singles),
            "smallest_detectable": detectable(null, variances.max(), floor),
            "p": joint,
            "p_floor": floor,
            "n": sum(row["n"] for row in singles),
        }
        rows += [whole, *singles]
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).assign(n_baseline=shift.n_baseline, features=features)
    table["q"] = table.groupby(table["condition"] == "")["p"].transform(benjamini_hochberg)
    table["detected"] = table["q"] < options.level
    return table


def groups_of(conditions: pd.DataFrame, role: Role) -> dict[str, np.ndarray]:
    """Families of a role, or their kinds where these are judged apart, each with its conditions (C,)."""
    families, kinds = conditions["family"], conditions["kind"]
    names = families.where(~families.map(lambda name: FAMILIES[name].apart), families + " " + kinds)
    chosen = names[families.isin(of_role(role))].drop_duplicates()
    return {name: (names == name).to_numpy() for name in chosen}


def moved(
    values: np.ndarray, group: np.ndarray, seed: np.ndarray, conditions: pd.DataFrame, options: Options
) -> dict[str, float]:
    """Corrected p that the conditions of a family do nothing, for families of data and of optimisation.

    values (runs, features); conditions: the baseline first. Permutation test of the sum of squared lengths, with the
    labels of all the family's runs and the baseline's permuted; Benjamini-Hochberg over the families.
    """
    rng = options.generator("families")
    p = {}
    for name, own in {**groups_of(conditions, "data"), **groups_of(conditions, "progress")}.items():
        p[name], _ = _joint_p(values, group, seed, np.flatnonzero(own), options, rng)
    return benjamini_hochberg(pd.Series(p, dtype=float)).to_dict()


def _joint_p(
    values: np.ndarray, group: np.ndarray, seed: np.ndarray, members: np.ndarray, options: Options,
    rng: np.random.Generator,
) -> tuple[float, float]:  # fmt: skip
    """p that no condition of a family does anything, and the least that so few runs could give. members: its groups."""
    picked = np.isin(group, [0, *members])
    labels = np.searchsorted([0, *members], group[picked])
    block = blocks(seed[picked], labels, options)
    floor = least_p(block, labels, options)
    # A random sample of few orders may repeat the observed one too seldom.
    return max(permutation_omnibus(values[picked], labels, options.permutations, rng, block), floor), floor


def blocks(seed: np.ndarray, group: np.ndarray, options: Options) -> np.ndarray:
    """Blocks (runs,) in which labels are permuted: the runs of one seed, or all where these have too few orders.

    What runs of one seed have in common stays with them, which makes the test sharper; over all runs it only holds more
    than its level. The choice follows from the numbers of runs alone.
    """
    return seed if distinct(seed, group) >= ENOUGH / options.level else np.zeros(len(group), dtype=int)


def least_p(block: np.ndarray, group: np.ndarray, options: Options) -> float:
    """The least p of a permutation test of squared lengths, group 0 the baseline's, with labels permuted within blocks."""
    return max(1 / options.permutations, 1 / distinct(block, group))


def distinct(block: np.ndarray, group: np.ndarray) -> float:
    """Number of orders of the labels within blocks of which sums of squared lengths may differ.

    Conditions with equally many runs may swap their names, as one alone may with a baseline of its size: the sum is the same.
    """
    sizes = np.array([np.bincount(group[block == label], minlength=group.max() + 1) for label in np.unique(block)])
    alike = np.unique(sizes[:, 1:] if sizes.shape[1] > 2 else sizes, axis=1, return_counts=True)[1]
    return orders_within(block, group) / float(np.prod(factorial(alike)))


def orders_within(block: np.ndarray, group: np.ndarray) -> float:
    """Number of ways to deal the runs of every block into groups of the sizes that they have there."""
    return float(np.prod([orders(np.bincount(group[block == label])) for label in np.unique(block)]))


def orders(sizes: np.ndarray) -> float:
    """Number of ways to deal runs into groups of these sizes (multinomial coefficient)."""
    return float(np.exp(gammaln(sizes.sum() + 1) - gammaln(sizes + 1).sum()))


def smallest_length(null: np.ndarray, variance: float, options: Options) -> float:
    """Length of shift whose cross-fitted square exceeds the null's upper `level` quantile with probability `power`.

    null (draws,): simulated squared lengths where there is no shift. variance: of the noise along a direction, averaged
    over directions. For a shift of length d the squared length is d^2 + 2 d sqrt(variance) z + null, z standard normal.
    """
    if not len(null):
        return np.nan
    limit = np.quantile(null, 1 - options.level)
    z = options.generator("power").standard_normal(len(null))
    low, high = 0.0, 1.0
    while np.mean(high**2 + 2 * high * np.sqrt(variance) * z + null > limit) < options.power:
        high *= 2
    for _ in range(30):
        middle = (low + high) / 2
        found = np.mean(middle**2 + 2 * middle * np.sqrt(variance) * z + null > limit) >= options.power
        low, high = (low, middle) if found else (middle, high)
    return high


def measured(
    vectors: np.ndarray,
    group: np.ndarray,
    seed: np.ndarray,
    conditions: pd.DataFrame,
    blocks: np.ndarray,
    options: Options,
) -> tuple[np.ndarray, Shifts, pd.DataFrame, dict[str, float]]:
    """Vectors (runs, features) in noise standard deviations, less the baseline's mean; their shifts; what is detected.

    blocks: as in `noise.fit`. What is detected: `control_table` and `moved`.
    """
    noise = fit(vectors, group, blocks)
    # The baseline's mean is taken off first: differences of large numbers would lose digits.
    standard = (vectors - vectors[group == 0].mean(axis=0)) / noise.sd
    shift = shifts(standard, group, noise, options.bootstrap, options.generator("bootstrap"), seed)
    controls = control_table(standard, group, seed, conditions, shift, noise, options)
    return standard, shift, controls, moved(standard, group, seed, conditions, options)
