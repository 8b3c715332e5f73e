"""Does the metric predict a benefit? Planted relations are found; noise that a run's spectrum and accuracy share is none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from diversity_spectra.compare.features import Features
from diversity_spectra.compare.halves import DIVISIONS, divisions, halves
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.ranks import rank_correlation, searched
from diversity_spectra.compare.shift import benjamini_hochberg
from diversity_spectra.compare.validation import TARGETS, validation_table

FAST = Options(permutations=200)
FEATURES, KINDS, STRENGTHS, RUNS = 12, 9, 3, 8
CONDITIONS = pd.DataFrame(
    [
        ("baseline", "", np.nan),
        *(("dropout", "", rate) for rate in (0.1, 0.3, 0.5)),
        *(("augmentation", f"kind{kind}", 1.0 + strength) for kind in range(KINDS) for strength in range(STRENGTHS)),
    ],
    columns=["family", "kind", "strength"],
)
CONDITIONS.insert(0, "condition", [f"c{index}" for index in range(len(CONDITIONS))])
CONDITIONS["training_set"] = CONDITIONS["condition"].where(CONDITIONS["family"] == "augmentation", "plain")


def simulate(rng: np.random.Generator, kinds: float, related: float = 0.0) -> tuple[Features, pd.DataFrame, pd.Series]:
    """Runs, their benefits and their mean alpha; a run's noise along dropout and in its accuracy correlate by 0.8.

    kinds: effect of a kind at its greatest strength, in noise standard deviations: on the spectrum, on each benefit and on
    alpha, independently. related: correlation of its effect on benefits with that along dropout.
    """
    sizes = np.where(CONDITIONS["family"] == "baseline", 2 * RUNS, RUNS)
    group, seed = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes])
    along = np.full(FEATURES, FEATURES**-0.5)  # the direction of dropout
    data, dropout = (CONDITIONS["family"] == name for name in ("augmentation", "dropout"))
    dose = CONDITIONS["strength"].to_numpy() / STRENGTHS
    kind = pd.factorize(CONDITIONS["kind"])[0]

    def effects(width: int) -> np.ndarray:
        own = kinds * rng.standard_normal((kind.max() + 1, width))
        return np.where(data, dose, 0)[:, None] * own[kind]

    shifts, alpha = effects(FEATURES), effects(1)[:, 0]
    benefits = related * (shifts @ along)[:, None] + np.sqrt(1 - related**2) * effects(len(TARGETS))
    shifts[dropout] = 20 * CONDITIONS["strength"].to_numpy()[dropout, None] * along
    noise = rng.standard_normal((len(group), FEATURES))
    shared, own = noise @ along, rng.standard_normal((len(group), len(TARGETS) + 1))
    index = pd.MultiIndex.from_arrays([CONDITIONS["condition"].to_numpy()[group], seed], names=["condition", "seed"])
    by_run = pd.DataFrame(0.8 * shared[:, None] + 0.6 * own[:, 1:] + benefits[group], index, list(TARGETS))
    features = Features(shifts[group] + noise, np.zeros(0), group, seed, CONDITIONS, pd.DataFrame())
    return features, by_run, pd.Series(0.8 * shared + 0.6 * own[:, 0] + alpha[group], index)


def metric_of(features: Features, alpha: pd.Series, kinds: float, rng: np.random.Generator) -> pd.DataFrame:
    """The columns of the table `metric` that are validated, from all runs; Vendi scores go with kinds alone."""
    mean = np.stack([features.vectors[features.group == index].mean(axis=0) for index in range(len(CONDITIONS))])
    length = ((mean - mean[0]) @ np.full(FEATURES, FEATURES**-0.5))[1:]
    metric = CONDITIONS.iloc[1:].reset_index(drop=True)
    metric = metric.assign(dropout_equivalent=np.clip(length, 0, None) / 20, weight_decay_equivalent=np.nan)
    metric["length_along_dropout"] = length
    vendi = rng.standard_normal((2, KINDS + 1))[:, pd.factorize(metric["kind"])[0]]
    for name, gain in zip(("pixel", "embedding"), vendi, strict=True):
        metric[f"diversity_gain_{name}"] = metric["strength"] * gain if kinds else rng.standard_normal(len(metric))
    return metric.assign(mean_alpha_shift=alpha.groupby("condition").mean()[metric["condition"]].to_numpy())


def validated(worlds: int, kinds: float, related: float = 0.0) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Of simulated experiments the table `validation`, scope data, and the same over conditions and one set of runs."""
    rng = np.random.default_rng([worlds, int(kinds), int(10 * related)])
    for _ in range(worlds):
        features, benefits, alpha = simulate(rng, kinds, related)
        metric = metric_of(features, alpha, kinds, rng)
        found = halves(metric, features, features.vectors, benefits, alpha, FAST)
        table = validation_table(metric, found, "plain", FAST)
        data = metric[metric["training_set"] != "plain"]
        gains = benefits.groupby("condition").mean().loc[data["condition"]]
        rows = [
            rank_correlation(np.column_stack([data[name], gains[target]]), 0.05)
            for name in dict.fromkeys(table["predictor"])
            for target in TARGETS
            if data[name].notna().all()
        ]
        old = pd.DataFrame(rows, columns=["correlation", "low", "high", "p"])
        yield table[table["scope"] == "data"], old.assign(q=benjamini_hochberg(old["p"]))


@pytest.mark.parametrize("kinds", [0.0, 3.0], ids=["noise alone", "kinds that differ"])
def test_what_is_not_related_predicts_nothing(kinds: float) -> None:
    """Over conditions and one set of runs most of these worlds show a relation that passes Benjamini and Hochberg."""
    found = [
        ((table.groupby("benefit")["p"].min() <= 0.05).mean(), (old["q"] <= 0.05).any())
        for table, old in validated(20, kinds)
    ]
    share, before = np.mean(found, axis=0)
    print(
        f"kinds, halves, corrected: {100 * share:.0f} % of benefits; conditions, same runs: {100 * before:.0f} % of worlds"
    )
    assert share <= 0.1 and before >= 0.5


def test_a_planted_relation_is_found() -> None:
    for table, _ in validated(3, 10.0, 1.0):
        own = table[table["predictor"] == "length_along_dropout"]
        assert (own["p"] <= 0.05).all() and (own["low"] > 0).all() and (own["n"] == KINDS).all()
        assert (table.loc[table["predictor"] == "mean_alpha_shift", "p"] > 0.05).all()


def test_a_strength_more_of_a_kind_is_no_further_evidence() -> None:
    rng = np.random.default_rng(0)
    features, benefits, alpha = simulate(rng, 3.0)
    metric = metric_of(features, alpha, 3.0, rng)
    found = halves(metric, features, features.vectors, benefits, alpha, FAST)
    again = pd.concat(
        [metric, metric[metric["kind"] == "kind0"].assign(condition=lambda rows: rows["condition"] + "b")]
    )
    more = [pd.concat([table, table[metric["kind"] == "kind0"]], ignore_index=True) for table in found]
    twice = validation_table(again.reset_index(drop=True), more, "plain", FAST)
    pd.testing.assert_frame_equal(validation_table(metric, found, "plain", FAST), twice)


def test_the_search_goes_through_all_orders() -> None:
    rng = np.random.default_rng(1)
    predictors, benefit = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5))
    predictors[:, 4, 2] = np.nan  # known of four units
    orders = np.array(list(permutations(range(5))))
    r, p, n = searched(predictors, benefit, orders)
    assert list(n) == [5, 5, 4]

    def size(division: int, order: np.ndarray) -> list[float]:
        own = benefit[division][order]
        return [stats.spearmanr(predictors[division, :k, j], own[:k])[0] for j, k in enumerate(n)]

    mean = np.mean([size(division, orders[0]) for division in range(2)], axis=0)
    largest = [max(np.abs(size(division, order)) * np.sqrt(n - 1)) for division in range(2) for order in orders[1:]]
    as_large = [sum(one >= own - 1e-9 for one in largest) for own in np.abs(mean) * np.sqrt(n - 1)]
    assert r == pytest.approx(mean) and p == pytest.approx((2 + np.array(as_large)) / 240)


def test_halves_have_no_seed_in_common_and_the_same_conditions() -> None:
    group = np.repeat([0, 1, 2, 3], [12, 6, 5, 1])
    seed = np.concatenate([np.arange(12), np.arange(6), np.arange(20, 25), [3]])
    first = list(divisions(seed, group, DIVISIONS, np.random.default_rng(0)))
    assert len(first) == DIVISIONS and len({tuple(part) for part in first}) > 1
    for part in first:
        assert not set(seed[part]) & set(seed[~part])
        counts = np.array([np.bincount(group[chosen], minlength=4) for chosen in (part, ~part)])
        assert (np.abs(counts[0] - counts[1]) <= 2).all() and (counts[:, :3] > 0).all()
    renamed = list(divisions(100 - seed, group, DIVISIONS, np.random.default_rng(0)))
    assert np.array_equal(first, renamed)


def test_a_condition_of_one_run_says_nothing() -> None:
    rng = np.random.default_rng(2)
    features, benefits, alpha = simulate(rng, 3.0)
    metric = metric_of(features, alpha, 3.0, rng)
    gone = (features.group == len(CONDITIONS) - 1) & (features.seed > 0)
    few = Features(
        features.vectors[~gone],
        features.correction,
        features.group[~gone],
        features.seed[~gone],
        CONDITIONS,
        features.names,
    )
    found = halves(metric, few, few.vectors, benefits[~gone], alpha[~gone], FAST)
    for one, other in zip(found[::2], found[1::2], strict=True):
        for name in ("length_along_dropout", "id_accuracy"):
            assert list(one[name].isna() & other[name].isna()) == [False] * len(metric)
            assert list(one[name].isna() | other[name].isna()) == [False] * (len(metric) - 1) + [True]
