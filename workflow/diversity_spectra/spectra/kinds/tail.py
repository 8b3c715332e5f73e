"""The fitted power law of the tail, its interval, its goodness and what speaks against it."""

from __future__ import annotations

import numpy as np

from diversity_spectra.spectra import alternatives, powerlaw, tails
from diversity_spectra.spectra.kind import STRICT, Kind, Measure, Spectrum
from diversity_spectra.spectra.kinds.norms import norms

# 95 % interval.
TAIL_PROBABILITY = 0.025


def measure(spectrum: Spectrum) -> dict:
    values, options = spectrum.above, spectrum.options
    if tails.equal(values):
        return {"reason": f"no power law: all eigenvalues equal within {tails.EQUAL:.1%}"}
    tail = powerlaw.fit_tail(values)
    if tail is None:
        return {"reason": f"no power law: {len(values)} eigenvalues above rounding error"}
    row = tail_columns(tail, values)
    if options.bootstrap:
        low, high, p = powerlaw.bootstrap(values, tail, options.bootstrap, spectrum.generator("bootstrap"))
        row |= {"alpha_low": low, "alpha_high": high, "alpha_interval": "bootstrap", "goodness_p": p}
    else:
        row["goodness_p"] = tails.goodness(tail, spectrum.generator("goodness"))
    row["warning"] = "; ".join(tails.warnings(values, tail, row["goodness_p"]))
    if options.alternatives:
        row |= alternatives.likelihood_ratios(values[-tail.n :], tail.alpha)
    return row | {
        "alpha_weighted": tail.alpha * norms(spectrum.values)["log_spectral_norm"],
        "log_alpha_norm": log_alpha_norm(spectrum.values, tail.alpha),
    }


def log_alpha_norm(values: np.ndarray, alpha: float) -> float:
    """log10 of the sum of values^alpha, without overflow or underflow."""
    logs = alpha * np.log10(values[values > 0])
    return float(logs.max() + np.log10((10 ** (logs - logs.max())).sum()))


def tail_columns(tail: powerlaw.Tail, values: np.ndarray) -> dict:
    """Exponent, its interval at the chosen xmin, and its range over tails between half and twice as long."""
    from scipy.special import gammaincinv

    alphas, counts, _ = powerlaw.exponents(values)
    near = alphas[(counts >= tail.n / 2) & (counts <= tail.n * 2)]
    # Given xmin, the sum of logarithms times (alpha - 1) follows a gamma law of shape n - 1 (xmin is a data point).
    low, high = gammaincinv(tail.n - 1, [TAIL_PROBABILITY, 1 - TAIL_PROBABILITY])
    return {
        "alpha": tail.alpha,
        "alpha_low": 1 + float(low) / tail.log_sum,
        "alpha_high": 1 + float(high) / tail.log_sum,
        "alpha_interval": "fixed xmin",
        "alpha_xmin_low": float(near.min()),
        "alpha_xmin_high": float(near.max()),
        "D": tail.D,
        "sigma": tail.sigma,
        "xmin": tail.xmin,
        "xmax": float(values[-1]),
        "num_pl_spikes": int(np.count_nonzero(values >= tail.xmin)),
    }


ALTERNATIVES = "spectra.alternatives.likelihood_ratios"
KIND = Kind(
    2,
    {
        "alpha": Measure(
            "1",
            meaning="exponent of the tail, density ~ λ^-alpha from `xmin` on: 1 + n_t / Σ ln(λ / xmin) over its n_t values",
            source="spectra.powerlaw.fit_tail",
            weightwatcher="λ > 1e-5 only; below 20 values n_t - 1 for n_t; -1 where the fit failed",
            label="alpha",
            beside=True,
        ),
        "alpha_{low,high}": Measure(
            "1", meaning="95 % interval of alpha, by the way that `alpha_interval` names", when=STRICT
        ),
        "alpha_interval": Measure(
            "",
            meaning="`bootstrap` (`spectra.bootstrap` above 0): synthetic samples with xmin chosen anew in each, pivot (alpha* - 1) / "
            "(alpha - 1); `fixed xmin`: the exact gamma interval if xmin had been known, so too narrow",
            when=STRICT,
        ),
        "goodness_p": Measure(
            "0 to 1",
            meaning="share of synthetic samples, the data counted as one, that fit as badly as the data; small speaks against a power "
            "law. With `alpha_interval` = `fixed xmin` by 100 samples at that xmin, which is too large",
            source="spectra.tails.goodness",
            when=STRICT,
        ),
        "alpha_xmin_{low,high}": Measure(
            "1", meaning="range of alpha over tails of half to twice the length: how far it hangs on xmin", when=STRICT
        ),
        "D": Measure(
            "0 to 1",
            meaning="Kolmogorov-Smirnov distance of the tail to its power law, to the upper and lower step",
            source="spectra.powerlaw.tail_distance",
            weightwatcher="to the lower step only",
            label="distance of the fit D",
        ),
        "sigma": Measure(
            "1", meaning="(alpha - 1) / √n_t, the standard error of alpha", source="spectra.powerlaw.fit_tail"
        ),
        "xmin": Measure(
            "λ",
            meaning="start of the tail: the λ above the rounding floor with the smallest D, of those with 8 values or more from it on",
            source="spectra.powerlaw.fit_tail",
            label="start of the tail xmin",
            log=True,
            scale=2.0,
        ),
        "xmax": Measure("λ", meaning="end of the tail, max λ"),
        "num_pl_spikes": Measure("count", meaning="number of λ >= xmin", label="length of the tail"),
        "alpha_weighted": Measure("1", meaning="alpha log10(max λ)", label="weighted alpha", scale="alpha"),
        "log_alpha_norm": Measure(
            "1",
            meaning="log10 Σ λ^alpha over all λ",
            source="spectra.kinds.tail.log_alpha_norm",
            label="log alpha norm",
            scale="alpha",
        ),
        "lr_{exponential,lognormal,truncated}": Measure(
            "1",
            meaning="normalised log-likelihood ratio of the power law against the alternative; positive favours the power law",
            source=ALTERNATIVES,
            when="`--alternatives`, strict",
        ),
        "lr_{exponential,lognormal,truncated}_p": Measure(
            "0 to 1", meaning="its two-sided p", source=ALTERNATIVES, when="`--alternatives`, strict"
        ),
        "warning": Measure(
            "",
            meaning="what speaks against reading alpha as an exponent: no power law (goodness_p <= 0.01), narrow tail (max λ < 2 xmin), "
            "tail truncated above, fingers (a few λ far above the rest)",
            source="spectra.tails.warnings",
            weightwatcher="`over-trained` for alpha < 2, `under-trained` for alpha > 6",
        ),
    },
    measure,
    failed=("status", "failed"),
)
