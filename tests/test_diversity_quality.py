"""Quality of synthetic sets: known distances recovered, planted copies found."""

import math

import numpy as np
import pytest
from scipy import linalg

from diversity_spectra.diversity import quality


def gaussian(n, d=6, shift=0.0, scale=1.0, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)) * scale + shift


class TestFrechet:
    def test_gaussians_of_known_distance(self):
        # |0.5|^2 * 6 + 6 * (1 - 2)^2 = 7.5; at n = 20,000 the standard error is about 0.03.
        assert quality.frechet_distance(
            gaussian(20_000), gaussian(20_000, shift=0.5, scale=2, seed=1)
        ) == pytest.approx(7.5, abs=0.15)

    @pytest.mark.parametrize(("n", "m"), [(200, 300), (200, 5), (4, 5)])
    def test_equals_the_formula_with_a_matrix_root_at_any_rank(self, n, m):
        mixing = np.random.default_rng(3).standard_normal((6, 6))
        x, y = gaussian(n) @ mixing, gaussian(m, shift=1, seed=1)
        a, b = np.cov(x.T), np.cov(y.T)
        root = linalg.sqrtm(a + 0j)
        # The symmetric form of the product has a root even where the covariances are singular.
        cross = np.sqrt(np.clip(np.linalg.eigvalsh((root @ b @ root).real), 0, None)).sum()
        expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a) + np.trace(b) - 2 * cross
        assert quality.frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)

    def test_zero_for_equal_samples_and_symmetric(self):
        x, y = gaussian(50), gaussian(40, shift=1, seed=1)
        assert quality.frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
        assert quality.frechet_distance(x, y) == pytest.approx(quality.frechet_distance(y, x))

    def test_one_item_has_no_covariance(self):
        with pytest.raises(ValueError, match="two items"):
            quality.frechet_distance(gaussian(1), gaussian(9))


class TestKernel:
    def test_equals_the_double_sums(self):
        x, y = gaussian(7), gaussian(5, shift=1, seed=1)

        def kernel(a, b):
            return (a @ b / 6 + 1) ** 3

        xx = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        yy = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
        xy = np.mean([kernel(a, b) for a in x for b in y])
        assert quality.kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy)

    def test_unbiased_at_zero_and_away_from_it(self):
        # In one dimension k(x, y) = (xy + 1)^3 has E k = sum over j of C(3, j) E[x^j] E[y^j], so the squared
        # discrepancy is sum C(3, j) (difference of the j-th moments)^2; moments of N(s, 1) are s, s^2 + 1, s^3 + 3 s.
        for shift in (0.0, 0.5):
            known = 3 * shift**2 + 3 * (shift**2) ** 2 + (shift**3 + 3 * shift) ** 2
            values = [
                quality.kernel_distance(gaussian(40, 1, seed=2 * i), gaussian(60, 1, shift, seed=2 * i + 1))
                for i in range(2000)
            ]
            assert np.mean(values) == pytest.approx(known, abs=4 * np.std(values) / math.sqrt(2000))
        assert min(values) < known


class TestNeighbourhoods:
    def test_equal_distributions_score_near_one_and_disjoint_ones_zero(self):
        same = quality.neighbourhoods(gaussian(500, 3), gaussian(500, 3, seed=1))
        assert all(0.8 < value < 1.2 for value in same.values())
        apart = quality.neighbourhoods(gaussian(50), gaussian(50, shift=100, seed=1))
        assert set(apart.values()) == {0.0}

    def test_a_collapsed_generator_is_precise_and_covers_little(self):
        collapsed = quality.neighbourhoods(gaussian(300, 3), gaussian(300, 3, scale=0.05, seed=1))
        assert collapsed["precision"] > 0.95
        assert collapsed["recall"] < 0.1
        assert collapsed["coverage"] < 0.3

    def test_worked_by_hand(self):
        real, synthetic = np.array([[0.0], [1.0], [10.0]]), np.array([[0.5], [0.6], [30.0]])
        result = quality.neighbourhoods(real, synthetic, k=1)
        # Real radii 1, 1, 9; synthetic radii 0.1, 0.1, 29.4. Real 10 holds nothing at 1 to 9.4; it is 20 from 30.
        assert result == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "density": 4 / 3, "coverage": 2 / 3})


class TestCopies:
    def test_planted_copies_are_found_and_named(self):
        rng = np.random.default_rng(0)
        reference = rng.integers(0, 256, (2000, 64))
        candidates = rng.integers(0, 256, (1500, 64))
        candidates[[5, 77, 1499]] = reference[[1999, 3, 1030]]
        candidates[200] = np.clip(reference[11] + rng.integers(-3, 4, 64), 0, 255)
        found = quality.near_copies(candidates, reference, 0.001)
        assert set(np.flatnonzero(found.flagged)) >= {5, 77, 200, 1499}
        assert list(found.nearest[[5, 77, 1499, 200]]) == [1999, 3, 1030, 11]
        assert list(found.distance[[5, 77, 1499]]) == [0, 0, 0]
        assert found.distance[200] == pytest.approx(np.linalg.norm(candidates[200] - reference[11]))

    def test_an_honest_sample_is_flagged_about_as_often_as_the_quantile_says(self):
        flagged = quality.near_copies(gaussian(4000, 3, seed=1), gaussian(4000, 3), 0.05).flagged
        assert 0.03 < flagged.mean() < 0.07

    def test_copies_within_the_reference_set_the_threshold_to_exact(self):
        reference = np.repeat(np.random.default_rng(0).integers(0, 256, (20, 9)), 2, axis=0)
        found = quality.near_copies(np.concatenate([reference[:1], reference[:1] + 1]), reference)
        assert found.threshold == 0
        assert list(found.flagged) == [True, False]

    def test_copies_within_the_reference_do_not_hide_others(self):
        """Means over blocks of pixels, where rounding is left between equal rows."""
        rng = np.random.default_rng(0)
        reference = rng.integers(0, 256, (500, 64, 49)).mean(axis=2)
        candidates = np.concatenate([reference[:60] + rng.normal(0, 0.1, (60, 64)), reference[100:160]])
        reference[480:] = reference[:20]
        found = quality.near_copies(candidates, reference)
        assert found.flagged.all() and not found.distance[60:].any()


def test_label_agreement():
    assert list(quality.label_agreement(np.array([[2.0, 1], [2, 1], [0, 1]]), np.array([0, 1, 1]))) == [
        True,
        False,
        True,
    ]


def test_share_interval_equals_the_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 0/20 and 1/29.
    assert quality.share_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert quality.share_interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert quality.share_interval(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_distance_table_is_tidy_and_at_equal_numbers():
    real, synthetic = gaussian(80, 4), gaussian(60, 4, shift=0.3, seed=1)
    rows = quality.distance_table(real, np.arange(80) % 2, synthetic, np.arange(60) % 2, ["a", "b"], 20, 5, 0)
    assert list(rows[0]) == ["measure", "label", "value", "low", "high", "n"]
    labels = {(row["measure"], row["label"]) for row in rows}
    neighbour = {(m, label) for m in ("precision", "recall", "density", "coverage") for label in ("a", "b", "mean")}
    assert labels == {("frechet_distance", "overall"), ("kernel_distance", "overall")} | neighbour
    assert all(row["low"] <= row["value"] <= row["high"] and row["n"] == 20 for row in rows)


def test_share_table_counts_each_class():
    flags = np.array([True, False, False, True])
    rows = quality.share_table("copies", flags, np.array([0, 0, 1, 1]), ["a", "b", "never"])
    assert [(row["label"], row["value"], row["n"]) for row in rows] == [
        ("a", 0.5, 2),
        ("b", 0.5, 2),
        ("overall", 0.5, 4),
    ]
