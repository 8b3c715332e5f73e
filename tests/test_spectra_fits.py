"""Power-law tail, alternatives and Marchenko-Pastur bulk: recovery of planted truth, and equality with references."""

import numpy as np
import pytest
import reference_spectra as reference

from diversity_spectra.spectra import alternatives, decompose, marchenko_pastur, measures, powerlaw
from diversity_spectra.spectra.matrices import View
from diversity_spectra.spectra.options import Options


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine the threads of BLAS wait for each other longer than they work."""
    with decompose.one_blas_thread():
        yield


# Fits by running sums and by fresh sums differ by rounding only.
ROUNDING = 1e-9


def pareto(rng: np.random.Generator, count: int, alpha: float) -> np.ndarray:
    return np.sort((1 - rng.random(count)) ** (-1 / (alpha - 1)))


def wishart(
    rng: np.random.Generator, N: int, M: int, sigma: float, spikes: int = 0, strength: float = 0.0
) -> np.ndarray:
    """Eigenvalues of noise with `spikes` orthogonal directions of singular value strength * sigma * edge added."""
    matrix = sigma * rng.standard_normal((N, M))
    if spikes:
        left = np.linalg.qr(rng.standard_normal((N, spikes)))[0]
        right = np.linalg.qr(rng.standard_normal((M, spikes)))[0]
        matrix += strength * sigma * (N**0.5 + M**0.5) * left @ right.T
    return reference.eigenvalues(matrix)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_fit_equals_trying_every_xmin(seed, two_sided):
    rng = np.random.default_rng(seed)
    samples = (
        pareto(rng, 150, 3.0),
        wishart(rng, 120, 80, 1.0),
        np.sort(rng.lognormal(0, 2, 60)),
        np.sort(np.round(pareto(rng, 90, 2.0), 1)),
    )
    for values in samples:
        fit = powerlaw.fit_tail(values, two_sided, min_tail=8)
        alpha, xmin, distance = reference.fit_tail(values, two_sided, min_tail=8)
        assert fit.alpha == pytest.approx(alpha, rel=ROUNDING)
        assert fit.xmin == xmin
        assert pytest.approx(distance, abs=ROUNDING) == fit.D


def test_planted_xmin_is_recovered():
    rng = np.random.default_rng(0)
    values = np.sort(np.concatenate([rng.random(2000), pareto(rng, 1000, 2.5)]))
    fit = powerlaw.fit_tail(values)
    assert fit.xmin == pytest.approx(1, abs=0.25)
    assert abs(fit.alpha - 2.5) < 3 * fit.sigma


def test_no_tail_is_fitted_to_too_few_or_equal_values():
    assert powerlaw.fit_tail(np.arange(1.0, 7.0), min_tail=8) is None
    assert powerlaw.fit_tail(np.ones(40)) is None


def test_interval_of_exponents_2_to_6_covers_at_its_level():
    """400 draws, a third with a body below the tail; 95 % +- 2 is about two standard errors of the share itself."""
    covered = 0
    for draw in range(400):
        rng = np.random.default_rng([20, draw])
        alpha = 2 + draw % 5
        values = pareto(rng, 100, alpha)
        if draw % 3 == 0:
            values = np.sort(np.concatenate([values, rng.random(50)]))
        tail = powerlaw.fit_tail(values)
        low, high, _ = powerlaw.bootstrap(values, tail, 100, rng)
        covered += low <= alpha <= high
    assert 0.93 <= covered / 400 <= 0.97


def test_goodness_of_fit_accepts_a_power_law_and_rejects_an_exponential():
    rng = np.random.default_rng(3)
    accepted = pareto(rng, 400, 2.5)
    rejected = np.sort(1 + 0.2 * rng.exponential(size=400))
    p = [
        powerlaw.bootstrap(values, powerlaw.fit_tail(values, min_tail=200), 100, rng, min_tail=200)[2]
        for values in (accepted, rejected)
    ]
    assert p[0] > 0.1
    assert p[1] < 0.05


def test_likelihood_ratios_equal_those_of_the_powerlaw_package():
    package = pytest.importorskip("powerlaw")
    rng = np.random.default_rng(0)
    for values in (pareto(rng, 300, 2.5), np.sort(1 + rng.exponential(4.0, 300))):
        alpha = 1 + len(values) / np.log(values / values[0]).sum()
        ours = alternatives.likelihood_ratios(values, alpha)
        assert alpha < 3  # the largest that the package tries
        fit = package.Fit(values, xmin=values[0], verbose=False)
        for name, theirs in (("exponential", "exponential"), ("truncated", "truncated_power_law")):
            ratio, p = fit.distribution_compare("power_law", theirs, normalized_ratio=True)
            # Two different optimisers.
            assert ours[f"lr_{name}"] == pytest.approx(ratio, rel=0.02)
            assert ours[f"lr_{name}_p"] == pytest.approx(p, abs=0.02)


def test_likelihood_ratio_prefers_the_law_that_made_the_data():
    rng = np.random.default_rng(1)
    made = {
        "exponential": np.sort(1 + rng.exponential(0.3, 600)),
        "lognormal": np.sort(np.exp(np.abs(rng.normal(0, 0.4, 600)))),
    }
    for name, values in made.items():
        ratios = alternatives.likelihood_ratios(values, 1 + len(values) / np.log(values / values[0]).sum())
        assert ratios[f"lr_{name}"] < 0
        assert ratios[f"lr_{name}_p"] < 0.05
    power_law = alternatives.likelihood_ratios(pareto(rng, 600, 2.5), 2.5)
    assert power_law["lr_exponential"] > 0
    assert power_law["lr_exponential_p"] < 0.01
    assert power_law["lr_truncated_p"] > 0.05


@pytest.mark.parametrize(("N", "M"), [(1000, 500), (500, 500), (2000, 200), (3000, 40)])
def test_bulk_edge_of_noise_is_within_one_percent(N, M):
    sigma = 0.03
    bulk = marchenko_pastur.fit_bulk(wishart(np.random.default_rng(N + M), N, M, sigma), N, M)
    # A matrix of 40 columns has few eigenvalues for its median.
    tolerance = 0.01 if M >= 100 else 0.03
    assert bulk.high == pytest.approx(sigma**2 * (N**0.5 + M**0.5) ** 2, rel=tolerance)
    assert bulk.sigma == pytest.approx(sigma, rel=tolerance)
    assert bulk.distance < 0.05


@pytest.mark.parametrize("spikes", [0, 1, 5, 20, 60])
def test_planted_spikes_are_counted(spikes):
    values = wishart(np.random.default_rng(spikes), 900, 300, 0.1, spikes, 1.5)
    bulk = marchenko_pastur.fit_bulk(values, 900, 300)
    assert bulk.spikes == spikes
    # With a fifth of the directions planted, and not quite aligned with those found, the edge is less certain.
    edge = 0.1**2 * ((900 - spikes) ** 0.5 + (300 - spikes) ** 0.5) ** 2
    assert bulk.high == pytest.approx(edge, rel=0.03 if spikes == 60 else 0.01)


def test_noise_has_a_spike_in_about_one_of_a_hundred_cases():
    rng = np.random.default_rng(0)
    found = sum(marchenko_pastur.fit_bulk(wishart(rng, 120, 60, 1.0), 120, 60).spikes > 0 for _ in range(300))
    # The median of 60 eigenvalues is uncertain, which adds to the 1 % of the margin.
    assert found <= 18


def test_density_and_distribution_agree_with_the_reference():
    N, M, sigma = 90, 60, 0.4
    x = np.linspace(1e-4, 60, 400_000)
    fast = marchenko_pastur.density(x, sigma, N, M)
    slow = [reference.marchenko_pastur_density(point, sigma, N, M) for point in x[::5000]]
    np.testing.assert_allclose(fast[::5000], slow, rtol=1e-12)
    points, cdf = marchenko_pastur.standard_law(M / N)
    integral = np.cumsum(fast) * (x[1] - x[0])
    np.testing.assert_allclose(np.interp(x / (sigma**2 * N), points, cdf)[::5000], integral[::5000], atol=1e-3)


def test_entropy_and_norms_follow_their_definitions():
    values = wishart(np.random.default_rng(0), 50, 30, 2.0)
    assert measures.entropy(values) == pytest.approx(reference.entropy(values, 30), rel=1e-12)
    assert np.isnan(measures.entropy(np.array([1.0])))
    # What rounding may have made counts neither in the sum nor in the rank.
    noisy = np.concatenate([np.full(50, 0.9), np.linspace(1, 2, 20)])
    row = measures.strict_measures(noisy, [], View("fc", "fc.weight"), 0.95, Options(), ("fc", "W"))
    assert row["entropy"] == pytest.approx(reference.entropy(noisy[50:], 20), rel=1e-12)
    assert measures.norms(values)["stable_rank"] == pytest.approx(values.sum() / values.max())
    assert measures.log_alpha_norm(values, 3.0) == pytest.approx(np.log10((values**3).sum()))
    assert np.isfinite(measures.log_alpha_norm(values * 1e200, 5.0))


def test_options_refuse_what_they_do_not_know():
    assert Options(include=["a*"]).include == ("a*",)
    with pytest.raises(Exception, match="convention is 'other'"):
        Options(convention="other")
