"""Subsamples and their intervals, the table of scores, and pixels as rows."""

import math
import tracemalloc

import numpy as np
import pytest

from diversity_spectra.diversity import vendi

CLASSES = ["ant", "bee", "cat"]


def labelled(sizes=(30, 20, 25), d=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return rng.standard_normal((len(labels), d)) + labels[:, None], labels


def table(rows, labels, classes=CLASSES, per_class=10, subsamples=4, seed=0, orders=(1.0,)):
    kernels = {"raw": lambda indices: (rows[indices], None)}
    return vendi.score_table(kernels, labels, classes, per_class, subsamples, seed, orders)


def test_a_subsample_has_each_image_once_and_the_same_number_of_each_class():
    _, labels = labelled()
    chosen = vendi.subsample(labels, CLASSES, 15, 0, 0)
    assert chosen.shape == (3, 15)
    for index, members in enumerate(chosen):
        assert len(set(members)) == 15
        assert set(labels[members]) == {index}


def test_draws_differ_by_seed_and_draw_and_not_by_the_order_of_classes():
    _, labels = labelled()
    first = vendi.subsample(labels, CLASSES, 15, 0, 0)
    assert np.array_equal(first, vendi.subsample(labels, CLASSES, 15, 0, 0))
    assert not np.array_equal(first, vendi.subsample(labels, CLASSES, 15, 0, 1))
    assert not np.array_equal(first, vendi.subsample(labels, CLASSES, 15, 1, 0))
    turned = vendi.subsample(2 - labels, CLASSES[::-1], 15, 0, 0)
    assert np.array_equal(first, turned[::-1])


def test_a_small_class_is_named():
    _, labels = labelled()
    with pytest.raises(ValueError, match="class bee has 20 distinct images, fewer than 21"):
        vendi.subsample(labels, CLASSES, 21, 0, 0)


def test_of_augmented_copies_distinct_pictures_are_drawn_and_any_of_their_copies():
    _, labels = labelled()
    copied, sources = np.tile(labels, 8), np.tile(np.arange(len(labels)), 8)
    chosen = vendi.subsample(copied, CLASSES, 15, 0, 0, sources)
    # The same pictures as of the plain set, so that the two differ by what was done to them alone.
    assert np.array_equal(np.sort(sources[chosen]), vendi.subsample(labels, CLASSES, 15, 0, 0))
    assert len(np.unique(chosen // len(labels))) > 4
    assert list(vendi.class_sizes(copied, CLASSES, sources)) == [30, 20, 25]
    with pytest.raises(ValueError, match="class bee has 20 distinct images, fewer than 21"):
        vendi.subsample(copied, CLASSES, 21, 0, 0, sources)


def test_identical_copies_change_neither_score_nor_interval():
    rows, labels = labelled()
    kernels = {"raw": lambda indices: (rows[indices % len(rows)], None)}
    sources = np.tile(np.arange(len(labels)), 8)
    copied = vendi.score_table(kernels, np.tile(labels, 8), CLASSES, 10, 4, 0, sources=sources)
    for row, plain in zip(copied, table(rows, labels, orders=vendi.ORDERS), strict=True):
        assert row == {**plain, **{name: pytest.approx(plain[name]) for name in ("score", "low", "high")}}


def test_table_has_each_class_mean_and_overall():
    rows, labels = labelled()
    result = table(rows, labels, orders=vendi.ORDERS)
    assert list(result[0]) == ["kernel", "order", "label", "score", "low", "high", "n"]
    assert [row["order"] for row in result[::5]] == ["1", "2", "inf"]
    assert [row["label"] for row in result[:5]] == [*CLASSES, "mean", "overall"]
    assert {row["n"] for row in result} == {10}
    by_label = {row["label"]: row["score"] for row in result[:5]}
    assert by_label["mean"] == pytest.approx(np.mean([by_label[name] for name in CLASSES]))
    draws = [vendi.subsample(labels, CLASSES, 10, 0, draw) for draw in range(4)]
    assert by_label["bee"] == pytest.approx(np.mean([vendi.score(vendi.eigenvalues(rows[d[1]])) for d in draws]))
    assert by_label["overall"] == pytest.approx(
        np.mean([vendi.score(vendi.eigenvalues(rows[d.ravel()])) for d in draws])
    )
    assert all(row["low"] < row["score"] < row["high"] for row in result)


def test_the_order_of_classes_does_not_matter():
    rows, labels = labelled()
    turned = {row["label"]: row for row in table(rows, 2 - labels, CLASSES[::-1])}
    for row in table(rows, labels):
        for column in ("score", "low", "high"):
            assert turned[row["label"]][column] == pytest.approx(row[column], rel=1e-12)


def test_without_images_left_out_or_with_one_draw_there_is_no_interval():
    rows, labels = labelled((20, 20, 20))
    for result in (table(rows, labels, per_class=20), table(rows, labels, subsamples=1)):
        assert all(math.isnan(row["low"]) and math.isnan(row["high"]) for row in result)


@pytest.mark.parametrize(("available", "drawn"), [(100, 80), (400, 80), (20, 16)])
def test_the_interval_covers_the_expected_score_of_the_population(available, drawn):
    """What the sets are compared by is the score expected of n images from where the set came from."""

    def sample(seed, n):
        return np.random.default_rng(seed).standard_normal((n, 12)) * np.arange(1, 13) ** -0.5

    def measured(rows):
        return vendi.score(vendi.eigenvalues(rows))

    truth = np.mean([measured(sample(10_000 + seed, drawn)) for seed in range(1500)])
    covered = plain = 0
    for seed in range(300):
        rows, one_class = sample(seed, available), np.zeros(available, int)
        values = np.array([measured(rows[vendi.subsample(one_class, ["a"], drawn, seed, k)[0]]) for k in range(5)])
        low, high = vendi.interval(values, drawn, available)
        covered += low <= truth <= high
        plain += abs(values.mean() - truth) <= 2.776 * values.std(ddof=1) / math.sqrt(5)
    # 300 simulations of a true 95 % fall within 0.92 and 0.98 in 98 % of cases.
    assert 0.91 <= covered / 300 <= 0.99
    assert plain < covered, "the spread of overlapping subsamples alone understates the error"


def test_small_images_are_rows_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8)
    rows = vendi.pixel_rows(images)
    assert rows.dtype == np.uint8
    assert np.array_equal(rows, images.reshape(3, -1))


@pytest.mark.parametrize("shape", [(64, 64), (96, 50), (70, 33)])
def test_large_images_are_averaged_over_blocks(shape):
    images = np.random.default_rng(0).integers(0, 256, (300, *shape, 3), dtype=np.uint8)
    factor = math.ceil(max(shape) / 32)
    blocks = [
        images[:, y : y + factor, x : x + factor].mean(axis=(1, 2))
        for y in range(0, shape[0], factor)
        for x in range(0, shape[1], factor)
    ]
    expected = np.stack(blocks, axis=1).reshape(300, -1)
    assert np.allclose(vendi.pixel_rows(images), expected, rtol=1e-5)
    some = np.random.default_rng(1).permutation(300)[:280]
    assert np.allclose(vendi.pixel_rows(images, some), expected[some], rtol=1e-5)


def test_large_images_are_never_in_memory_together(tmp_path):
    images = np.lib.format.open_memmap(tmp_path / "i.npy", "w+", np.uint8, (4000, 128, 128, 3))  # 197 MB
    tracemalloc.start()
    vendi.pixel_rows(images, np.arange(4000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 170e6  # the result takes 49 MB, a piece as float32 50 MB
