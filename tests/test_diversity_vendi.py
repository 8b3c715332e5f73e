"""Vendi scores: planted values, invariances, the equality of all forms, and vendi-score 0.0.3."""

import math
import tracemalloc
import warnings

import numpy as np
import pytest

from diversity_spectra.diversity import vendi

ORDERS = vendi.ORDERS
RELATIVE = 1e-8  # eigenvalues are exact to about 1e-15, and 1e-15 ln(1e-15) of each of a few hundred may add up


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Correlated rows with a mean, as pixels have."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.5 + 0.3


def gram_score(rows: np.ndarray, order: float) -> float:
    """The definition, through the n x n matrix of similarities with blank rows alike and unlike the rest."""
    kernel = np.empty((len(rows), len(rows)))
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            size = np.linalg.norm(a) * np.linalg.norm(b)
            kernel[i, j] = a @ b / size if size else float(not a.any() and not b.any())
    return vendi.score(np.linalg.eigvalsh(kernel / len(rows)), order)


@pytest.mark.parametrize("order", [*ORDERS, 0.5, 3.0])
@pytest.mark.parametrize("clusters", [1, 2, 7, 20])
def test_orthogonal_clusters_score_their_number(order, clusters):
    rows = np.repeat(np.eye(32)[:clusters] * 9.0, 5, axis=0)
    assert vendi.score(vendi.eigenvalues(rows), order) == pytest.approx(clusters, rel=1e-12)


def test_unequal_clusters_score_the_entropy_of_their_shares():
    shares = np.array([0.5, 0.25, 0.25])
    spectrum = vendi.eigenvalues(np.repeat(np.eye(3), [8, 4, 4], axis=0))
    assert vendi.score(spectrum, 1) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert vendi.score(spectrum, 2) == pytest.approx(1 / (shares**2).sum())
    assert vendi.score(spectrum, math.inf) == pytest.approx(2)


def test_orders_fall_from_rank_to_one():
    for seed in range(20):
        spectrum = vendi.eigenvalues(features(50, 30, seed))
        values = [vendi.score(spectrum, order) for order in (0.1, 0.5, 1, 2, 5, math.inf)]
        assert 1 < values[-1] < values[0] < 31
        assert values == sorted(values, reverse=True)


def test_orders_are_continuous_at_one_and_infinity():
    spectrum = vendi.eigenvalues(features(50, 30))
    assert vendi.score(spectrum, 1 + 1e-6) == pytest.approx(vendi.score(spectrum, 1), rel=1e-5)
    assert vendi.score(spectrum, 600.0) == pytest.approx(vendi.score(spectrum, math.inf), rel=1e-2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (20, 20), (1, 5)])
def test_copies_order_and_scale_change_nothing(order, shape):
    rows = features(*shape)
    rows[0] = 0
    expected = vendi.score(vendi.eigenvalues(rows), order)
    rng = np.random.default_rng(1)
    copies = np.concatenate([rows, rows, rows])[rng.permutation(3 * len(rows))]
    assert vendi.score(vendi.eigenvalues(copies), order) == pytest.approx(expected, rel=RELATIVE)
    scaled = rows * rng.uniform(0.1, 9, (len(rows), 1))
    assert vendi.score(vendi.eigenvalues(scaled), order) == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(60, 12), (12, 60), (31, 30), (30, 30)])
@pytest.mark.parametrize("blank", [0, 3])
def test_primal_dual_and_streaming_equal_the_definition(order, shape, blank):
    rows = features(*shape)
    rows[:blank] = 0
    expected = gram_score(rows, order)
    streamed = vendi.stream_eigenvalues(vendi.batches(rows, 7))
    assert vendi.score(vendi.eigenvalues(rows), order) == pytest.approx(expected, rel=RELATIVE)
    assert vendi.score(vendi.stream_eigenvalues([rows]), order) == pytest.approx(expected, rel=RELATIVE)
    assert vendi.score(streamed, order) == pytest.approx(expected, rel=RELATIVE)


def test_a_centre_is_subtracted_in_every_form():
    rows = features(40, 12)
    centre = rows.mean(axis=0)
    expected = gram_score(rows - centre, 1)
    assert vendi.score(vendi.eigenvalues(rows, centre)) == pytest.approx(expected, rel=RELATIVE)
    assert vendi.score(vendi.stream_eigenvalues(vendi.batches(rows, 9), centre)) == pytest.approx(
        expected, rel=RELATIVE
    )
    wide = features(12, 40)
    centre = wide.mean(axis=0)
    assert vendi.score(vendi.eigenvalues(wide, centre)) == pytest.approx(gram_score(wide - centre, 1), rel=RELATIVE)


def test_rows_equal_to_the_centre_are_blank_and_not_rounding_made_large():
    rows = np.full((9, 7), 0.1)
    assert vendi.score(vendi.eigenvalues(rows, np.full(7, 0.1 * (1 + 1e-15)))) == pytest.approx(1)


def test_raw_pixels_hide_noise_that_centred_pixels_show():
    # The known weakness of the raw kernel: its first eigenvalue is the mean grey level.
    noise = np.random.default_rng(0).integers(0, 256, (100, 3072)).astype(np.uint8)
    assert vendi.score(vendi.eigenvalues(noise)) < 10
    assert vendi.score(vendi.eigenvalues(noise, noise.mean(axis=0))) > 95


def test_a_memory_map_is_read_in_batches(tmp_path):
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.uint8, (40_000, 64))
    rows[:] = np.random.default_rng(0).integers(0, 256, rows.shape)
    tracemalloc.start()
    streamed = vendi.score(vendi.eigenvalues(rows))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All rows as float64 are 20 MB; a batch of 4096 is 2 MB.
    assert peak < 8e6
    assert streamed == pytest.approx(vendi.score(vendi.stream_eigenvalues([np.asarray(rows)])), rel=RELATIVE)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        vendi.score(np.ones(3) / 3, 0)
    with pytest.raises(ValueError, match="at least one item"):
        vendi.stream_eigenvalues([])


class TestAgainstVendiScore:
    """The package vendi-score 0.0.3: equal where it is right, and where it is wrong."""

    @pytest.fixture
    def package(self):
        pytest.importorskip("sklearn")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from vendi_score import vendi as package
        return package

    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("shape", [(80, 20), (20, 80), (150, 150), (300, 40)])
    def test_equal(self, package, order, shape):
        rows = features(*shape)
        theirs_order = "inf" if math.isinf(order) else order
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        ours = vendi.score(vendi.eigenvalues(rows), order)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ours == pytest.approx(package.score_K(unit @ unit.T, q=theirs_order), rel=1e-8)
            assert ours == pytest.approx(package.score_dual(rows, q=theirs_order), rel=1e-8)

    def test_its_score_x_ignores_the_order(self, package):
        rows = features(50, 20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert package.score_X(rows, q=2) == package.score_X(rows, q=1)
        assert vendi.score(vendi.eigenvalues(rows), 2) < vendi.score(vendi.eigenvalues(rows), 1)

    def test_its_blank_rows_lose_probability(self, package):
        # Two orthogonal kinds and blanks, a third each: three kinds. Theirs sums a distribution of mass 2/3.
        rows = np.repeat(np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 0]]), 4, axis=0)
        assert vendi.score(vendi.eigenvalues(rows)) == pytest.approx(3)
        assert package.score_dual(rows) == pytest.approx(np.exp(2 / 3 * np.log(3)))

    def test_its_diversity_of_features_does_not_run(self, package):
        with pytest.raises(TypeError, match="missing 1 required"):
            package.intdiv_X(features(5, 3))

    def test_its_pixel_score_ignores_the_size_it_is_asked_for(self):
        pytest.importorskip("PIL")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from PIL import Image
            from vendi_score import image_utils

            pictures = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
            images = [Image.fromarray(picture) for picture in pictures]
            assert image_utils.pixel_vendi_score(images, resize=8) == image_utils.pixel_vendi_score(images)
