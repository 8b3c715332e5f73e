"""Measures of one spectrum. Every function takes eigenvalues of W^T W, ascending, not divided by N."""

from __future__ import annotations

import hashlib

import numpy as np

from diversity_spectra.spectra import alternatives, decompose, marchenko_pastur, powerlaw
from diversity_spectra.spectra.matrices import View
from diversity_spectra.spectra.options import Options

# 95 % interval.
TAIL_PROBABILITY = 0.025
FULL_RANK_SHARE = 0.9


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and on names (layer, matrix, purpose), never on the order of layers."""
    digest = hashlib.sha256("|".join([str(seed), *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def norms(values: np.ndarray) -> dict[str, float]:
    """Norms and stable rank: sums of eigenvalues are squared Frobenius norms, the largest a squared operator norm."""
    norm, largest = float(values.sum()), float(values[-1])
    return {
        "norm": norm,
        "log_norm": float(np.log10(norm)),
        "spectral_norm": largest,
        "lambda_max": largest,
        "log_spectral_norm": float(np.log10(largest)),
        "sv_max": largest**0.5,
        "sv_min": max(float(values[0]), 0.0) ** 0.5,
        "stable_rank": norm / largest,
    }


def entropy(values: np.ndarray) -> float:
    """Entropy -sum p ln p / ln(n) of p = values / sum, 0 to 1, for n positive values; NaN for fewer than two."""
    if len(values) < 2:
        return float("nan")
    p = values / values.sum()
    return float(-(p * np.log(p)).sum() / np.log(len(p)))


def log_alpha_norm(values: np.ndarray, alpha: float) -> float:
    """log10 of the sum of values^alpha, without overflow or underflow."""
    logs = alpha * np.log10(values[values > 0])
    return float(logs.max() + np.log10((10 ** (logs - logs.max())).sum()))


def shuffled(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Eigenvalues of the matrix with its elements shuffled: what its values alone, without their places, give."""
    flat = matrix.flatten()
    rng.shuffle(flat)
    return decompose.eigenvalues([decompose.Combination((1.0, flat.reshape(matrix.shape)))])[0][0]


def shannon_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Square root of the Jensen-Shannon divergence (nats) of two vectors, each normalised to sum 1."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2

    def divergence(x: np.ndarray) -> float:
        some = x > 0
        return float((x[some] * np.log(x[some] / middle[some])).sum())

    return max((divergence(p) + divergence(q)) / 2, 0.0) ** 0.5


def strict_measures(
    values: np.ndarray,
    parts: list[decompose.Combination],
    view: View,
    floor: float,
    options: Options,
    names: tuple[str, str],
) -> dict:
    """All columns of the strict convention, except those that need a reference.

    Args:
        values: (n,) ascending eigenvalues of all matrices of the row, not all zero.
        parts: the matrices themselves, for the randomised control.
        view: N, M of one matrix.
        floor: eigenvalues up to here cannot be told from zero at the precision of the stored weights.
        options: which of the optional columns are wanted.
        names: layer and matrix, from which the seeds derive.
    """
    row = norms(values)
    above = values[values > floor]
    rank = len(above)
    row |= {"matrix_rank": rank, "rank_loss": len(values) - rank, "entropy": entropy(above)}
    reasons = []
    if rank < 2:
        return row | {"reason": "rank below 2: no distribution of eigenvalues"}
    tail = powerlaw.fit_tail(above)
    if tail is None:
        reasons.append(f"no power law: {rank} eigenvalues above rounding error")
    else:
        row |= tail_columns(tail, above)
        row |= {
            "alpha_weighted": tail.alpha * row["log_spectral_norm"],
            "log_alpha_norm": log_alpha_norm(values, tail.alpha),
        }
        if options.bootstrap:
            rng = generator(options.seed, *names, "bootstrap")
            low, high, p = powerlaw.bootstrap(above, tail, options.bootstrap, rng)
            row |= {"alpha_low": low, "alpha_high": high, "alpha_interval": "bootstrap", "goodness_p": p}
        if options.alternatives:
            row |= alternatives.likelihood_ratios(above[-tail.n :], tail.alpha)
    if rank < FULL_RANK_SHARE * len(values):
        # A law for full-rank noise says nothing of a matrix that is mostly zeros, such as a low-rank update.
        reasons.append(f"no Marchenko-Pastur fit: rank {rank} of {len(values)}")
    else:
        row |= bulk_columns(above, view, row["lambda_max"])
        if options.randomize:
            row |= _randomised(values, parts, view, generator(options.seed, *names, "shuffle"))
    return row | {"reason": "; ".join(reasons)}


def bulk_columns(values: np.ndarray, view: View, largest: float) -> dict[str, float]:
    bulk = marchenko_pastur.fit_bulk(values, view.N, view.M)
    return {
        "sigma_mp": bulk.sigma,
        "bulk_min": bulk.low,
        "bulk_max": bulk.high,
        "spike_edge": bulk.spike_edge,
        "num_spikes": bulk.spikes,
        "mp_softrank": bulk.high / largest,
        "mp_D": bulk.distance,
    }


def _randomised(values: np.ndarray, parts: list[decompose.Combination], view: View, rng: np.random.Generator) -> dict:
    random = np.sort(np.concatenate([shuffled(part.full(), rng) for part in parts]))
    fit = bulk_columns(random, view, random[-1])
    return {
        "max_rand_eval": random[-1],
        "rand_distance": shannon_distance(values, random),
        "ww_softrank": random[-1] / values[-1],
        "ww_maxdist": values[-1] - random[-1],
        "num_traps": fit["num_spikes"],
        **{f"rand_{name}": value for name, value in fit.items()},
    }


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
