"""Power-law tail, alternatives and Marchenko-Pastur bulk: recovery of planted truth, and equality with references."""

import numpy as np
import pytest
import reference_spectra as reference

from diversity_spectra.spectra import alternatives, decompose, measures, powerlaw, tails
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.kind import Spectrum
from diversity_spectra.spectra.kinds.entropy import entropy
from diversity_spectra.spectra.kinds.norms import norms
from diversity_spectra.spectra.kinds.tail import log_alpha_norm
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


def wishart(rng: np.random.Generator, N: int, M: int, sigma: float) -> np.ndarray:
    return reference.eigenvalues(sigma * rng.standard_normal((N, M)))


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


def test_entropy_and_norms_follow_their_definitions():
    values = wishart(np.random.default_rng(0), 50, 30, 2.0)
    assert entropy(values) == pytest.approx(reference.entropy(values, 30), rel=1e-12)
    assert np.isnan(entropy(np.array([1.0])))
    # What rounding may have made counts neither in the sum nor in the rank.
    matrix = np.diag(np.concatenate([np.full(50, 0.9), np.linspace(1, 2, 20)]) ** 0.5)
    row = measures.strict_measures(Spectrum(matrix.diagonal() ** 2, [Combination((1.0, matrix))], 0.95))
    assert row["entropy"] == pytest.approx(reference.entropy(matrix.diagonal()[50:] ** 2, 20), rel=1e-12)
    assert norms(values)["stable_rank"] == pytest.approx(values.sum() / values.max())
    assert log_alpha_norm(values, 3.0) == pytest.approx(np.log10((values**3).sum()))
    assert np.isfinite(log_alpha_norm(values * 1e200, 5.0))


def test_options_refuse_what_they_do_not_know():
    assert Options(include=["a*"]).include == ("a*",)
    with pytest.raises(Exception, match="convention is 'other'"):
        Options(convention="other")


# ---------------------------------------------------------------- exponents over a fixed share, and warnings


def test_hill_is_its_definition_and_recovers_the_exponent_of_a_whole_power_law():
    values = pareto(np.random.default_rng(0), 9, 3.0)
    assert tails.hill(values) == pytest.approx(1 + 4 / sum(np.log(value / values[4]) for value in values[5:]))
    assert tails.hill(pareto(np.random.default_rng(1), 20_000, 3.0)) == pytest.approx(3, abs=0.1)
    assert np.isnan(tails.hill(np.ones(8)))
    assert np.isnan(tails.hill(np.ones(1)))


@pytest.mark.parametrize("shape", [(256, 256), (512, 256), (2048, 256), (300, 128)])
def test_exponents_over_a_fixed_share_do_not_scatter_and_those_of_windows_know_no_shape(shape):
    rng = np.random.default_rng(0)
    hill, farms, fitted = [], [], []
    for _ in range(12):
        noise = Combination((1.0, rng.standard_normal(shape)))
        values = np.linalg.eigvalsh(noise.gram)
        values = values[values > 1e-9]
        hill.append(tails.hill(values))
        farms.append(tails.farms([noise], 0.0))
        fitted.append(powerlaw.fit_tail(values).alpha)
    assert np.std(hill) / np.mean(hill) < 0.02
    assert np.std(farms) / np.mean(farms) < 0.02
    assert np.mean(farms) == pytest.approx(2.11, abs=0.02)
    assert np.std(fitted) / np.mean(fitted) > 0.2, "xmin is free: a lottery"


def test_windows_cover_a_matrix_evenly():
    matrix = np.arange(300.0 * 130).reshape(300, 130) ** 0.5
    parts = [matrix[a : a + 128, b : b + 128] for a in (0, 172) for b in (0, 2)]
    values = np.sort(np.concatenate([reference.eigenvalues(part) for part in parts]))
    found = tails.farms([Combination((1.0, matrix))], 1e-6)
    assert found == pytest.approx(tails.hill(values[values > 1e-6]), rel=1e-6)


def flagged(values: np.ndarray) -> str:
    tail = powerlaw.fit_tail(values)
    return "; ".join(tails.warnings(values, tail, tails.goodness(tail, np.random.default_rng(0))))


def test_tails_that_mislead_are_flagged():
    rng = np.random.default_rng(0)
    assert flagged(np.linspace(1.007, 1.026, 12)).startswith("narrow tail: from xmin to 1.02")
    cut = pareto(rng, 3000, 2.0)
    assert "tail truncated above" in flagged(np.sort(rng.permutation(cut[cut < 5])[:500]))
    values = pareto(rng, 500, 3.0)
    assert flagged(values) == ""
    assert flagged(np.concatenate([values, values[-1] * 20 * np.array([1, 1.05, 1.1])])) == (
        "fingers: 3 values far above the rest"
    )
    assert "narrow" in flagged(wishart(rng, 256, 256, 1.0)) or "no power law" in flagged(wishart(rng, 256, 256, 1.0))


def test_true_power_laws_are_rarely_flagged():
    rng = np.random.default_rng(1)
    assert sum(bool(flagged(pareto(rng, 300, 2 + 3 * rng.random()))) for _ in range(200)) <= 6


def test_goodness_at_fixed_xmin_is_uniform_for_a_power_law_and_never_zero():
    rng = np.random.default_rng(2)
    p = []
    for _ in range(300):
        values = pareto(rng, 40, 2.5)
        alphas, counts, sums = powerlaw.exponents(values)
        distance = powerlaw.tail_distance(np.log(values), alphas[0], two_sided=True)
        tail = powerlaw.Tail(alphas[0], values[0], distance, 0.0, int(counts[0]), sums[0])
        p.append(tails.goodness(tail, rng))
    assert abs(np.mean(np.array(p) <= 0.1) - 0.1) < 0.05
    assert abs(np.mean(p) - 0.5) < 0.06
    far = powerlaw.Tail(2.5, 1.0, 0.9, 0.0, 40, 1.0)
    assert tails.goodness(far, rng) == 1 / 101


def test_equal_eigenvalues_have_no_exponent():
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0]
    matrix = Combination((1.0, orthogonal))
    values = np.linalg.eigvalsh(matrix.gram)
    row = measures.strict_measures(Spectrum(values, [matrix], 1e-20))
    assert "alpha" not in row and np.isnan(row["alpha_hill"]) and np.isnan(row["alpha_farms"])
    assert row["reason"].startswith("no power law: all eigenvalues equal within 0.1%")
