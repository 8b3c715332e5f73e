"""The Marchenko-Pastur fit in planted worlds: what is noise, what is signal, and when neither can be told."""

import numpy as np
import pytest
import reference_spectra as reference

from diversity_spectra.spectra import decompose, marchenko_pastur
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.kinds import bulk
from diversity_spectra.spectra.marchenko_pastur import Law


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine the threads of BLAS wait for each other longer than they work."""
    with decompose.one_blas_thread():
        yield


PROFILES = ["", "rows", "columns", "rows, columns"]


def scaled(rng: np.random.Generator, noise: np.ndarray, profile: str, spread: float = 0.5) -> np.ndarray:
    """Rows or columns of `noise` multiplied by lognormal factors, as in the weights of trained networks."""
    N, M = noise.shape
    rows = np.exp(spread * rng.standard_normal(N)) if "rows" in profile else np.ones(N)
    columns = np.exp(spread * rng.standard_normal(M)) if "columns" in profile else np.ones(M)
    return rows[:, None] * noise * columns


def planted(rng: np.random.Generator, noise: np.ndarray, spikes: int, strength: float = 1.5) -> np.ndarray:
    """`noise` and `spikes` directions, each 1 to 2 times `strength` as strong as the noise's largest singular value."""
    if not spikes:
        return noise
    N, M = noise.shape
    left = np.linalg.qr(rng.standard_normal((N, spikes)))[0]
    right = np.linalg.qr(rng.standard_normal((M, spikes)))[0]
    return noise + strength * np.linalg.norm(noise, 2) * (left * rng.uniform(1, 2, spikes)) @ right.T


def fit(matrix: np.ndarray) -> dict:
    combination = Combination((1.0, matrix))
    values = np.maximum(np.linalg.eigvalsh(combination.gram), 0)
    return bulk.bulk_columns(values[values > 1e-13 * values[-1]], [combination])[0]


# ---------------------------------------------------------------- the law itself


@pytest.mark.parametrize(("N", "M"), [(90, 60), (60, 60), (60, 90), (1000, 40)])
def test_law_of_equal_variances_is_that_of_marchenko_and_pastur(N, M):
    law = Law.flat(N, M)
    edge, unit = law.edge
    root = np.sqrt(N) + np.sqrt(M)
    assert edge == pytest.approx(root**2, rel=1e-8)
    # Johnstone, Annals of Statistics 29 (2001).
    assert unit == pytest.approx(root * (N**-0.5 + M**-0.5) ** (1 / 3), rel=1e-3)
    x = np.linspace((np.sqrt(N) - np.sqrt(M)) ** 2 + 1e-9, edge, 200_001)
    density = np.array([reference.marchenko_pastur_density(point, 1.0, max(N, M), min(N, M)) for point in x])
    # From above, since the density of a square matrix is infinite at 0.
    above = np.cumsum(((density[1:] + density[:-1]) / 2 * np.diff(x))[::-1])[::-1]
    at = slice(20_000, None, 20_000)
    np.testing.assert_allclose(law.above(x[at]) / min(N, M), [*above, 0][at], atol=2e-3)
    # A little inside, since the reference is a staircase at the very edge.
    inner = x[20_000:180_000:400]
    np.testing.assert_allclose(marchenko_pastur.density(inner, law)[5:-5], density[20_000:180_000:400][5:-5], rtol=0.02)


@pytest.mark.parametrize("profile", PROFILES)
def test_law_agrees_with_the_mean_of_many_matrices(profile):
    rng = np.random.default_rng(1)
    scales = scaled(rng, np.ones((200, 120)), profile)
    rows, columns = scales[:, :1] / scales[0, 0], scales[0]
    law = Law(rows[:, 0] ** 2, np.ones(200), columns**2, np.ones(120))
    spectra = [reference.eigenvalues(scales * rng.standard_normal(scales.shape)) for _ in range(60)]
    x = np.quantile(spectra, np.linspace(0.05, 0.95, 19))
    expected = (np.array(spectra)[:, :, None] > x).mean(axis=(0, 1))
    np.testing.assert_allclose(law.above(x) / 120, expected, atol=0.005)
    edge, unit = law.edge
    largest = np.array([values[-1] for values in spectra])
    # Mean and standard deviation of the Tracy-Widom law of order 1 are -1.21 and 1.27, up to corrections of N^(-2/3).
    assert largest.mean() == pytest.approx(edge - 1.21 * unit, rel=0.1)
    assert largest.std() == pytest.approx(1.27 * unit, rel=0.4)


# ---------------------------------------------------------------- planted spikes


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("share", [0, 0.02, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("shape", [(600, 300), (300, 300)])
def test_planted_spikes_are_counted_whatever_the_scales_of_rows_and_columns(shape, share, profile):
    rng = np.random.default_rng([7, int(100 * share), shape[0], len(profile)])
    spikes = round(share * shape[1])
    row = fit(planted(rng, scaled(rng, rng.standard_normal(shape), profile), spikes))
    assert abs(row["num_spikes"] - spikes) <= 1
    if share < 0.4:
        assert row["mp_holds"], row["mp_reason"]


@pytest.mark.parametrize("spread", [0.3, 0.5])
def test_scales_of_rows_alone_make_no_spikes_but_to_the_law_of_one_variance(spread):
    rng = np.random.default_rng(0)
    matrix = scaled(rng, rng.standard_normal((1024, 512)), "rows", spread)
    row = fit(matrix)
    assert row["num_spikes"] == 0
    assert row["mp_holds"]
    assert row["mp_row_spread"] == pytest.approx(spread, rel=0.1)
    plain = marchenko_pastur.fit_bulk(reference.eigenvalues(matrix), lambda spikes: Law.flat(1024, 512))
    assert plain is None or plain.spikes > 40


@pytest.mark.parametrize(("N", "M"), [(1000, 500), (500, 500), (2000, 200), (3000, 40)])
def test_bulk_edge_of_noise_is_within_one_percent(N, M):
    sigma = 0.03
    row = fit(sigma * np.random.default_rng(N + M).standard_normal((N, M)))
    # A matrix of 40 columns has few eigenvalues for its quantiles.
    tolerance = 0.01 if M >= 100 else 0.03
    assert row["bulk_max"] == pytest.approx(sigma**2 * (N**0.5 + M**0.5) ** 2, rel=tolerance)
    assert row["sigma_mp"] == pytest.approx(sigma, rel=tolerance)
    if 2 * M <= N and M >= 100:
        assert row["bulk_min"] == pytest.approx(sigma**2 * (N**0.5 - M**0.5) ** 2, rel=0.05)
    assert row["mp_holds"]
    assert (row["mp_row_spread"], row["mp_column_spread"]) == pytest.approx((0, 0), abs=0.1)


def test_spreads_of_the_scales_are_recovered_beside_a_signal():
    rng = np.random.default_rng(0)
    row = fit(planted(rng, scaled(rng, rng.standard_normal((500, 400)), "columns", 0.4), 20))
    assert row["mp_column_spread"] == pytest.approx(0.4, abs=0.06)
    assert row["mp_row_spread"] < 0.1


def test_noise_has_a_spike_in_about_one_of_a_hundred_cases():
    rng = np.random.default_rng(0)
    found = sum(fit(rng.standard_normal((120, 60)))["num_spikes"] > 0 for _ in range(100))
    # Quantiles of 60 eigenvalues are uncertain, which adds to the 1 % of the margin.
    assert found <= 6


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("freedom", [3, 5])
def test_heavy_tailed_entries_make_hardly_a_spike(freedom, profile):
    rng = np.random.default_rng([3, freedom, len(profile)])
    spikes = [fit(scaled(rng, rng.standard_t(freedom, (400, 300)), profile))["num_spikes"] for _ in range(4)]
    assert max(spikes) <= 3
    assert np.mean(spikes) <= 1.5


@pytest.mark.parametrize("profile", ["", "rows, columns"])
def test_sparse_entries_make_hardly_a_spike_or_are_told(profile):
    rng = np.random.default_rng(4)
    for kept in (0.5, 0.1, 0.02):
        matrix = rng.standard_normal((500, 300)) * (rng.random((500, 300)) < kept)
        row = fit(scaled(rng, matrix, profile))
        if row["mp_holds"]:
            assert row["num_spikes"] <= 5
        else:
            assert "single entries" in row["mp_reason"]
    assert not row["mp_holds"], "one entry in fifty is too few"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("correlation", [0.1, 0.3, 0.5, 0.8])
def test_correlated_columns_are_told_where_they_make_spikes(correlation, profile):
    """An autoregressive process along the rows: correlations that no scales of rows and columns explain."""
    rng = np.random.default_rng([5, int(10 * correlation), len(profile)])
    noise = rng.standard_normal((600, 300))
    for column in range(1, 300):
        noise[:, column] = correlation * noise[:, column - 1] + (1 - correlation**2) ** 0.5 * noise[:, column]
    row = fit(scaled(rng, noise, profile))
    assert row["num_spikes"] <= 3 or not row["mp_holds"]
    if correlation >= 0.5:
        assert not row["mp_holds"]


def test_dead_rows_and_columns_are_left_out():
    rng = np.random.default_rng(6)
    matrix = planted(rng, rng.standard_normal((400, 300)), 12)
    matrix[:80] = 0
    matrix[:, :60] = 1e-9 * rng.standard_normal((400, 60))
    row = fit(matrix)
    assert row["mp_holds"], row["mp_reason"]
    assert row["num_spikes"] == 12


def test_spectra_without_a_bulk_say_so():
    rng = np.random.default_rng(8)
    steep = (np.linalg.qr(rng.standard_normal((200, 100)))[0] * np.geomspace(1, 1e-3, 100)) @ rng.standard_normal(
        (100, 100)
    )
    orthogonal = np.linalg.qr(rng.standard_normal((100, 100)))[0]
    low_rank = rng.standard_normal((200, 30)) @ rng.standard_normal((30, 100))
    for matrix, told in ((steep, ""), (orthogonal, "no such bulk"), (low_rank, "rank 30 of 100")):
        row = fit(matrix)
        assert not row["mp_holds"]
        assert told in row["mp_reason"]
    few = fit(rng.standard_normal((40, 12)))
    assert "12 eigenvalues, fewer than 20" in few["mp_reason"]


def test_a_bulk_below_the_rounding_of_the_gram_matrix_is_told():
    rng = np.random.default_rng(0)
    (u, _), (v, _) = np.linalg.qr(rng.normal(size=(128, 64))), np.linalg.qr(rng.normal(size=(64, 64)))
    singular = np.sort(np.concatenate([np.full(30, 1e-9), np.full(10, 2e-9), np.linspace(1, 2, 24)]))
    columns, reason = bulk.bulk_columns(singular**2, [Combination((1.0, (u * singular) @ v))])
    assert not columns["mp_holds"] and "the median eigenvalue is below 1e-13 of the largest" in reason


def test_matrices_of_one_row_are_fitted_together():
    rng = np.random.default_rng(9)
    groups = [Combination((1.0, rng.standard_normal((90, 30)))) for _ in range(8)]
    values = np.sort(np.concatenate([np.linalg.eigvalsh(group.gram) for group in groups]))
    row, problem = bulk.bulk_columns(values, groups)
    assert not problem
    assert row["mp_holds"], row["mp_reason"]
    assert row["bulk_max"] == pytest.approx((90**0.5 + 30**0.5) ** 2, rel=0.02)
