"""Cross-fitted cosines against planted truth: unbiased, and with intervals that cover."""

from itertools import combinations

import numpy as np
import pytest
from reference_crossfit import cosine_interval

from diversity_spectra.compare.crossfit import (
    LEAST_SHARE,
    Worlds,
    cosine_intervals,
    cosines,
    permutation_omnibus,
    permutation_p,
    shifts,
)
from diversity_spectra.compare.noise import Noise, fit

FEATURES = 24
BLOCKS = np.arange(FEATURES) % 4
PAIR = np.array([[0, 1]])


def experiment(rng, seeds, baseline_runs, length, cosine, others=4):
    """Runs (runs, features) of a baseline, two conditions with a planted cosine, and others; true noise variance 1.

    length: of the shifts, root mean square per feature. Noise has correlation 0.5 between features, of either sign.
    """
    first, second = np.linalg.qr(rng.standard_normal((FEATURES, 2)))[0].T * np.sqrt(FEATURES) * length
    planted = [0 * first, first, cosine * first + np.sqrt(1 - cosine**2) * second]
    planted += [rng.standard_normal(FEATURES) * length for _ in range(others)]
    sizes = [baseline_runs] + [seeds] * (2 + others)
    group = np.repeat(np.arange(len(sizes)), sizes)
    sign = np.where(np.arange(FEATURES) % 3, 1.0, -1.0)
    common = rng.standard_normal((len(group), 1)) * sign
    noise = np.sqrt(0.5) * (rng.standard_normal((len(group), FEATURES)) + common)
    return np.array(planted)[group] + noise, group


def measured(rng, *arguments, draws=200, **options):
    """Shifts of one simulated experiment, from raw values as the workflow would compute them."""
    values, group = experiment(rng, *arguments, **options)
    noise = fit(values, group, BLOCKS)
    return shifts(values / noise.sd, group, noise, draws, rng)


def averaged_over_splits(own, other, baseline):
    """Reference: (mean of own's half - baseline's half) . (other's - baseline's other half), over all splits."""

    def halves(runs):
        picks = combinations(range(len(runs)), len(runs) // 2)
        return [(runs[list(p)].mean(0), np.delete(runs, list(p), axis=0).mean(0)) for p in picks]

    if own is other:
        products = [(a - z) @ (b - y) for a, b in halves(own) for z, y in halves(baseline)]
    else:
        products = [(own.mean(0) - z) @ (other.mean(0) - y) for z, y in halves(baseline)]
    return np.mean(products)


def test_closed_form_is_the_average_over_all_splits():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((14, 5)) + 1
    group = np.repeat([0, 1, 2], [6, 4, 4])
    unbiased = shifts(values, group, Noise(np.ones(5), np.ones(3), 11.0, np.zeros(5, int), np.ones(5)), 0, rng).unbiased
    runs = [values[group == index] for index in range(3)]
    for a in (1, 2):
        for b in (1, 2):
            assert unbiased[a - 1, b - 1] == pytest.approx(averaged_over_splits(runs[a], runs[b], runs[0]))


@pytest.mark.parametrize("length", [0.4, 1.0, 3.0, 6.0])
def test_intervals_are_those_of_the_slow_definition(length):
    """Pairs of conditions and of combinations of them; the weakest shifts have no length, or the least share of noise."""
    rng = np.random.default_rng(int(10 * length))
    shift = measured(rng, 3, 6, length, 0.9, draws=40)
    for made in (shift, shift.combine(rng.standard_normal((3, 6)))):
        pairs = np.array(list(combinations(range(len(made.unbiased)), 2)))
        found = cosine_intervals(made, pairs, 0.1, steps=21)
        slow = [cosine_interval(made, *pair, 0.1, 21, LEAST_SHARE) for pair in pairs]
        assert found == pytest.approx(np.array(slow), abs=1e-9)


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_covers_the_planted_cosine(seeds, cosine):
    rng = np.random.default_rng([seeds, int(10 * cosine)])
    covered = 0
    for _ in range(500):
        low, high = cosine_intervals(measured(rng, seeds, 2 * seeds, 3.0, cosine), PAIR, 0.05, steps=41)[0]
        covered += low <= cosine <= high
    print(f"{seeds} seeds, cosine {cosine}: {covered / 5:.1f} % of 500 intervals cover it")
    assert 0.90 <= covered / 500 <= 0.98


@pytest.mark.parametrize("cosine", [0.0, 0.9])
def test_interval_of_shifts_below_the_noise_is_wide_and_covers(cosine):
    rng = np.random.default_rng(7)
    ends = np.array([cosine_intervals(measured(rng, 3, 6, 0.5, cosine), PAIR, 0.05, steps=41)[0] for _ in range(100)])
    assert np.mean((ends[:, 0] <= cosine) & (cosine <= ends[:, 1])) >= 0.95
    assert np.median(ends[:, 1] - ends[:, 0]) > 1.5


@pytest.mark.parametrize(("seeds", "baseline_runs"), [(2, 4), (3, 3), (3, 6), (5, 10)])
def test_unrelated_conditions_come_out_near_zero(seeds, baseline_runs):
    length = 2.0
    rng = np.random.default_rng([seeds, baseline_runs])
    found = [measured(rng, seeds, baseline_runs, length, 0.0, draws=0) for _ in range(500)]
    fitted = [cosines(shift.unbiased)[0, 1] for shift in found]
    plain = np.mean([cosines(shift.plain)[0, 1] for shift in found])
    print(f"{seeds} seeds, {baseline_runs} baseline runs: cross-fitted {np.nanmean(fitted):+.3f}, plain {plain:+.3f}")
    assert np.isfinite(fitted).mean() > 0.99
    assert abs(np.nanmean(fitted)) <= 0.03
    # The shared noise over the expected squared length: what the plain cosine must show by arithmetic.
    expected = (1 / baseline_runs) / (length**2 + 1 / seeds + 1 / baseline_runs)
    assert plain == pytest.approx(expected, abs=0.025)
    assert plain > abs(np.nanmean(fitted)) + 0.01


def test_families_share_no_noise_with_their_own_members():
    """Inner products of combinations are unbiased too, though a family and its member share runs."""
    rng = np.random.default_rng(3)
    weights = np.array([[0.5, 0.5], [1.0, 0.0]])
    grams = []
    for _ in range(500):
        values, group = experiment(rng, 3, 6, 1.5, 0.5, others=0)
        noise = Noise(np.ones(FEATURES), np.ones(3), 9.0, np.zeros(FEATURES, int), np.ones(FEATURES))
        grams.append(shifts(values, group, noise, 0, rng).combine(weights).unbiased)
    truth = FEATURES * 1.5**2 * np.array([[0.75, 0.75], [0.75, 1.0]])
    assert np.mean(grams, axis=0) / truth == pytest.approx(np.ones((2, 2)), abs=0.04)


def test_permutation_p_is_exact_and_says_its_floor():
    rng = np.random.default_rng(0)
    p, floor = permutation_p(
        rng.standard_normal((2, 3)) + 9, rng.standard_normal((4, 3)), np.full((1, 3), 9.0), 99, rng
    )
    assert floor == 1 / 15
    assert p == pytest.approx([1 / 15, 1 / 15])
    single, joint = [], []
    for _ in range(400):
        values = rng.standard_normal((14, 4)) + rng.standard_normal((14, 1))
        single.append(permutation_p(values[:3], values[3:9], values[9:].mean(0, keepdims=True), 200, rng)[0])
        joint.append(permutation_omnibus(values, np.repeat([1, 0, 2], [3, 6, 5]), 200, rng))
    assert np.all(np.mean(np.array(single) <= 0.1, axis=0) < 0.15)
    assert 0.06 < np.mean(np.array(joint) <= 0.1) < 0.15


def test_a_shift_without_noise_along_it_is_no_division_by_zero():
    zero, one = np.zeros(1), np.ones(1)
    nothing = (zero, zero, zero)
    world = Worlds(one, one, zero, nothing, (one, one, zero), (zero, zero), (zero, zero), one, one, nothing)
    with np.errstate(all="raise"):
        assert world.shares_below(np.array([-0.5, 0.5])).tolist() == [[1], [0]]
