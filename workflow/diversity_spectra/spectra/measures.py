"""Measures of one spectrum. Every function takes eigenvalues of W^T W, ascending, not divided by N."""

from __future__ import annotations

import hashlib

import numpy as np

from diversity_spectra.spectra import alternatives, decompose, marchenko_pastur, powerlaw, tails
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.variance_profile import variance_profile

# 95 % interval.
TAIL_PROBABILITY = 0.025
FULL_RANK_SHARE = 0.9
# Below this spread eigenvalues are equal, as those of an orthogonal matrix are: what differs is rounding.
EQUAL = 1e-3
# When the Marchenko-Pastur fit holds: eigenvalues, distance to the law, shoulder beyond its edge, largest single entry.
# docs/spectra.md shows what planted worlds give.
MP_LEAST, MP_DISTANCE, MP_SHOULDER, MP_ENTRY = 20, 0.05, 0.5, 1.0


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


def shuffled(matrix: np.ndarray, rng: np.random.Generator) -> decompose.Combination:
    """The matrix with its elements shuffled: what its values alone, without their places, give."""
    flat = matrix.flatten()
    rng.shuffle(flat)
    return decompose.Combination((1.0, flat.reshape(matrix.shape)))


def shannon_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Square root of the Jensen-Shannon divergence (nats) of two vectors, each normalised to sum 1."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2

    def divergence(x: np.ndarray) -> float:
        some = x > 0
        return float((x[some] * np.log(x[some] / middle[some])).sum())

    return max((divergence(p) + divergence(q)) / 2, 0.0) ** 0.5


def of_zeros(size: int) -> dict:
    """What is known of a matrix of zeros with `size` eigenvalues."""
    zeros = dict.fromkeys(("norm", "spectral_norm", "lambda_max", "sv_max", "sv_min"), 0.0)
    return {**zeros, "matrix_rank": 0, "rank_loss": size, "reason": "all values are zero"}


def strict_measures(
    values: np.ndarray,
    parts: list[decompose.Combination],
    floor: float,
    options: Options,
    names: tuple[str, str],
) -> dict:
    """All columns of the strict convention, except those that need a reference.

    Args:
        values: (n,) ascending eigenvalues of all matrices of the row, not all zero.
        parts: the matrices themselves.
        floor: eigenvalues up to here cannot be told from zero at the precision of the stored weights.
        options: which of the optional columns are wanted.
        names: layer and matrix, from which the seeds derive.
    """
    row = norms(values)
    above = values[values > floor]
    rank = len(above)
    row |= {"matrix_rank": rank, "rank_loss": len(values) - rank, "entropy": entropy(above)}
    if rank < 2:
        return row | {"reason": "rank below 2: no distribution of eigenvalues"}
    reasons = []
    fitted, problem = _tail(above, options, names)
    row |= fitted | {"alpha_hill": tails.hill(above), "alpha_farms": tails.farms(parts, floor)}
    if problem:
        reasons.append(problem)
    else:
        row |= {
            "alpha_weighted": row["alpha"] * row["log_spectral_norm"],
            "log_alpha_norm": log_alpha_norm(values, row["alpha"]),
        }
    bulk, problem = bulk_columns(above, parts)
    row |= bulk
    if problem:
        reasons.append(problem)
    if options.randomize:
        row |= _randomised(values, parts, floor, generator(options.seed, *names, "shuffle"))
    return row | {"reason": "; ".join(reasons)}


def _tail(values: np.ndarray, options: Options, names: tuple[str, str]) -> tuple[dict, str]:
    """Columns of the fitted power law, or why there is none."""
    if values[-1] < (1 + EQUAL) * values[0]:
        return {}, f"no power law: all eigenvalues equal within {EQUAL:.1%}"
    tail = powerlaw.fit_tail(values)
    if tail is None:
        return {}, f"no power law: {len(values)} eigenvalues above rounding error"
    row = tail_columns(tail, values)
    if options.bootstrap:
        rng = generator(options.seed, *names, "bootstrap")
        low, high, p = powerlaw.bootstrap(values, tail, options.bootstrap, rng)
        row |= {"alpha_low": low, "alpha_high": high, "alpha_interval": "bootstrap", "goodness_p": p}
    else:
        row["goodness_p"] = tails.goodness(tail, generator(options.seed, *names, "goodness"))
    row["warning"] = "; ".join(tails.warnings(values, tail, row["goodness_p"]))
    if options.alternatives:
        row |= alternatives.likelihood_ratios(values[-tail.n :], tail.alpha)
    return row, ""


def bulk_columns(values: np.ndarray, parts: list[decompose.Combination]) -> tuple[dict, str]:
    """Columns of the Marchenko-Pastur fit, and why there is none, if so.

    Args:
        values: (n,) eigenvalues of all `parts` above rounding error, ascending.
    """
    size = sum(min(part.shape) for part in parts)
    missing = f"no Marchenko-Pastur fit: rank {len(values)} of {size}"
    # A law for noise of full rank says nothing of a matrix that is mostly zeros, such as a low-rank update.
    if len(values) < size / 2:
        return {"mp_holds": False, "mp_reason": missing}, missing
    parts = [part for part in parts if part.gram.any()]
    profile = variance_profile(parts, values)
    size = round(min(profile.N, profile.M) * len(parts))
    if len(values) < FULL_RANK_SHARE * size:
        return {"mp_holds": False, "mp_reason": missing}, missing
    values = values[-size:]
    bulk = marchenko_pastur.fit_bulk(values, profile.law, len(parts))
    if bulk is None:
        missing = "no bulk: half of the eigenvalues or more lie beyond any edge"
        return {"mp_holds": False, "mp_reason": missing}, f"no Marchenko-Pastur fit: {missing}"
    objections = []
    if len(values) < MP_LEAST:
        objections.append(f"{len(values)} eigenvalues, fewer than {MP_LEAST}")
    if bulk.distance > MP_DISTANCE:
        objections.append(f"no such bulk: distance {bulk.distance:.2g} to the law, more than {MP_DISTANCE}")
    if bulk.shoulder > MP_SHOULDER:
        objections.append(f"no edge: {bulk.shoulder:.0%} of the density goes on beyond it")
    if profile.largest_entry > MP_ENTRY:
        objections.append("single entries large enough for spikes of their own")
    rows, columns = profile.spreads(bulk.spikes / len(parts))
    return {
        "sigma_mp": bulk.sigma,
        "bulk_min": bulk.low,
        "bulk_max": bulk.high,
        "spike_edge": bulk.spike_edge,
        "num_spikes": bulk.spikes,
        "mp_softrank": bulk.high / float(values[-1]),
        "mp_D": bulk.distance,
        "mp_shoulder": bulk.shoulder,
        "mp_row_spread": rows,
        "mp_column_spread": columns,
        "mp_holds": not objections,
        "mp_reason": "; ".join(objections),
    }, ""


def _randomised(values: np.ndarray, parts: list[decompose.Combination], floor: float, rng: np.random.Generator) -> dict:
    matrices = [shuffled(part.full(), rng) for part in parts]
    random = np.sort(np.concatenate(decompose.eigenvalues(matrices)[0]))
    above = random[random > floor]
    fit, _ = bulk_columns(above, matrices)
    tail = powerlaw.fit_tail(above)
    return {
        "max_rand_eval": random[-1],
        "rand_distance": shannon_distance(values, random),
        "ww_softrank": random[-1] / values[-1],
        "ww_maxdist": values[-1] - random[-1],
        "num_traps": fit.get("num_spikes"),
        "rand_alpha": tail.alpha if tail else np.nan,
        **{f"rand_{name}": value for name, value in fit.items() if name in RANDOMISED},
    }


RANDOMISED = ("sigma_mp", "bulk_min", "bulk_max", "spike_edge", "num_spikes", "mp_softrank", "mp_D", "mp_holds")


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
