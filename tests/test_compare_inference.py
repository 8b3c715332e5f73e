"""Claims about spectra in simulated worlds: false verdicts at most at the level, intervals that cover, and some power.

Few worlds of each; benchmarks/inference.md has many.
"""

from __future__ import annotations

import numpy as np
import pytest
from planted import WORLDS, World, covered, judged, simulate
from worlds import world

from diversity_spectra.compare import claims
from diversity_spectra.compare.controls import blocks, least_p
from diversity_spectra.compare.crossfit import Seeds, permutation_omnibus
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.study import compare


def evidence_of(name: str, seeds: int, worlds: int):
    rng = np.random.default_rng([seeds, list(WORLDS).index(name)])
    for _ in range(worlds):
        *runs, shifts = simulate(WORLDS[name], seeds, 2 * seeds, rng)
        yield judged(*runs), shifts


@pytest.mark.parametrize("name", [name for name in WORLDS if name.startswith("nothing")])
def test_nothing_is_claimed_where_nothing_happens(name: str) -> None:
    decided = [
        judge(evidence).verdict != claims.INCONCLUSIVE
        for evidence, _ in evidence_of(name, 3, 25)
        for judge in (claims.like_regularisers, claims.more_like_dropout, claims.unlike_optimisation)
    ]
    assert np.mean(decided) <= 0.05


@pytest.mark.parametrize("name", [name for name in WORLDS if name.startswith("progress")])
def test_pure_progress_is_not_called_regularisation(name: str) -> None:
    for evidence, _ in evidence_of(name, 5, 15):
        found = claims.like_regularisers(evidence)
        assert found.verdict == claims.INCONCLUSIVE
        assert {fact["code"] for fact in found.details["missing"]} <= {claims.Missing.NOT_SEPARABLE}
        assert claims.unlike_optimisation(evidence).verdict != claims.SUPPORTED
        assert claims.more_like_dropout(evidence).verdict == claims.INCONCLUSIVE


def test_a_direction_beyond_progress_is_found() -> None:
    found = [claims.like_regularisers(evidence).verdict for evidence, _ in evidence_of("dropout", 5, 15)]
    assert np.mean([verdict == claims.SUPPORTED for verdict in found]) > 0.8


@pytest.mark.parametrize(("name", "verdict"), [("dropout", claims.SUPPORTED), ("decay", claims.CONTRADICTED)])
def test_which_control_data_resemble_beyond_progress_is_found(name: str, verdict: str) -> None:
    found = [claims.more_like_dropout(evidence).verdict for evidence, _ in evidence_of(name, 5, 15)]
    assert np.mean([each == verdict for each in found]) > 0.8


@pytest.mark.parametrize("name", ["dropout and progress", "dropout and progress, shared seeds", "decay"])
def test_intervals_beyond_progress_cover(name: str) -> None:
    held = [covered(evidence, shifts) for evidence, shifts in evidence_of(name, 5, 60)]
    for what in (what for what, holds in held[0].items() if holds is not None):
        assert np.mean([row[what] for row in held]) >= 0.86, what  # of 60 at 95 %: fewer in one of 300 such tests


def test_permuting_within_seeds_keeps_the_level_and_gains_power() -> None:
    options = Options(permutations=100)
    found = {}
    for length in (1e-9, 0.6):
        rng = np.random.default_rng(5)
        world = World(dropout=(0, 0, 1, 0), length=length, optimised=False, shared=0.45)
        p = []
        for _ in range(100):
            values, group, seed, _ = simulate(world, 5, 10, rng)
            values, group, seed = (part[group <= 3] for part in (values, group, seed))
            assert (blocks(seed, group, options) == seed).all()
            p.append([permutation_omnibus(values, group, 100, rng, block) for block in (None, seed)])
        found[length] = np.mean(np.array(p) <= 0.05, axis=0)
    assert found[1e-9][1] <= 0.10
    assert found[0.6][1] > found[0.6][0] + 0.2


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_noise_that_seeds_share_is_estimated_without_bias(share: float) -> None:
    rng = np.random.default_rng(0)
    world = World(length=1e-9, optimised=False, shared=share)
    found = []
    for _ in range(100):
        values, group, seed, _ = simulate(world, 3, 6, rng)
        mean = np.stack([values[group == index].mean(axis=0) for index in range(group.max() + 1)])
        found.append(Seeds.of(seed, group).common(values - mean[group]) / values.shape[1])
    assert np.mean(found) == pytest.approx(share, abs=0.06)


def test_other_choices_are_made_one_at_a_time() -> None:
    found = compare(world("supported", seeds=4, baseline_runs=8), Options(bootstrap=100, permutations=100))
    table, verdicts = found["robustness"], found["claims"].set_index("claim")["verdict"]
    as_it_is = table[table["kind"] == ""].set_index("claim")["verdict"]
    assert as_it_is.to_dict() == verdicts[["a", "b", "e"]].to_dict()
    assert (table["agrees"] == (table["verdict"] == table["claim"].map(verdicts))).all()
    counts = table[table["claim"] == "a"].groupby("kind").size()
    assert counts.to_dict() == {
        "": 1, "matrix": 1, "one measure": 6, "without a measure": 3, "with a measure": 3, "without layers": 4,
        "one strength": 6, "without a condition": 8,
        "geometry": 1, "projected out": 3,
    }  # fmt: skip
    assert table[(table["kind"] == "without a condition")]["agrees"].all()
    assert not table[table["kind"] == "one measure"]["agrees"].all()


def test_the_least_p_knows_which_orders_are_alike() -> None:
    """Strengths of as many runs may swap their names: one run of each of four, and two of the baseline, prove nothing."""
    rng, options = np.random.default_rng(0), Options(permutations=3000)
    for group, alike, orders in (
        ([0, 0, 1, 2, 3, 4], 24, 360),
        ([0, 0, 0, 1, 1, 1], 2, 20),
        ([0, 0, 0, 0, 1, 1], 1, 15),
    ):
        runs = np.array(group)
        assert least_p(np.zeros(len(runs)), runs, options) == pytest.approx(alike / orders)
        far = runs[:, None] * 100.0 * np.eye(5)[runs] + 0.01 * rng.standard_normal((len(runs), 5))
        assert permutation_omnibus(far, runs, options.permutations, rng) == pytest.approx(alike / orders, abs=0.02)
    seeds = np.repeat([0, 1], 3)
    assert least_p(seeds, np.array([0, 1, 2, 0, 1, 2]), options) == pytest.approx(2 / 36)


def test_one_run_a_condition_is_not_permuted_within_its_seed() -> None:
    """As in the published study, eight runs of the baseline: within seed 0 the seven runs have but seven orders that differ."""
    group, seed, options = (
        np.array([*[0] * 8, *range(1, 7)]),
        np.array([*range(8), *[0] * 6]),
        Options(permutations=2000),
    )
    block = blocks(seed, group, options)
    assert (block == 0).all() and least_p(block, group, options) == 1 / 2000
    rng = np.random.default_rng(0)
    values = rng.standard_normal((14, 12)) + 18 * (group > 0)[:, None]
    assert permutation_omnibus(values, group, 2000, rng, block) < 0.005
