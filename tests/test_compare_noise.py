"""The noise model against known variances."""

import numpy as np
import pytest

from diversity_spectra.compare.noise import effective_dimension, fit, shrink


def test_pooled_deviation_and_condition_factor_are_recovered():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 6)
    sd = np.array([0.1, 1.0, 10.0, 3.0])
    values = rng.standard_normal((240, 4)) * sd + rng.standard_normal((40, 4))[group] * 100
    values[group == 7] = 2 * values[group == 7]  # this condition varies twice as much
    noise = fit(values, group, np.arange(4))
    assert noise.df == 200
    assert noise.sd == pytest.approx(sd, rel=0.15)
    assert 2 < noise.factor[7] < 6
    assert np.delete(noise.factor, 7) == pytest.approx(np.full(39, 1.0), abs=0.6)


def test_shrinkage_moves_uncertain_estimates_to_the_common_one():
    rng = np.random.default_rng(1)
    estimates = rng.chisquare(3, size=200) / 3  # all of a true variance of 1
    logs, share = shrink(np.log(estimates), np.full(200, 3.0))
    assert logs.std() < 0.5 * np.log(estimates).std()
    assert np.median(logs) == pytest.approx(0, abs=0.15)
    assert share.max() < 0.4
    certain, kept = shrink(np.log([1.0, 100.0]), np.array([500.0, 500.0]))
    assert certain == pytest.approx(np.log([1.0, 100.0]), abs=0.05) and kept.min() > 0.99


def test_missing_constant_and_single_runs():
    values = np.array([[1.0, 5.0, np.nan], [2.0, 5.0 + 1e-15, np.nan], [1.5, 5.0, 1.0]])
    noise = fit(values, np.array([0, 0, 1]), np.arange(3))
    assert noise.sd[0] == pytest.approx(np.sqrt(0.5))
    assert np.isnan(noise.sd[1:]).all()
    assert noise.df == 1


def test_effective_dimension_counts_independent_features():
    rng = np.random.default_rng(2)
    independent = rng.standard_normal((60, 10))
    assert effective_dimension(independent, 60) == pytest.approx(10, rel=0.25)
    assert effective_dimension(np.repeat(independent[:, :2], 5, axis=1), 60) == pytest.approx(2, rel=0.2)
