"""The diversity metric: what rate of dropout, or of decay, would have moved the spectra like this condition did?

The metric is this project's own; docs/method.md gives the reasons for its form.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.alignment import family_weights, opposed
from diversity_spectra.compare.benefits import BENEFITS, Benefits
from diversity_spectra.compare.crossfit import Shifts
from diversity_spectra.compare.features import Features
from diversity_spectra.compare.options import Options

SCORE_CONFIDENCE = 0.95  # of the intervals of Vendi scores, whatever the level of the comparison


def metric_table(
    features: Features, shift: Shifts, gains: Benefits, diversity: pd.DataFrame, options: Options
) -> pd.DataFrame:
    """One row per condition but the baseline.

    <family>_equivalent (low, high): strength on the family's path nearest to the condition's shift; <family>_residual:
    share of the squared shift that lies off the path there; <family>_beyond: the nearest point is the strongest
    strength swept, so the true equivalent may lie beyond. regularisation_gain: signed length of the shift along the
    dropout direction, in noise standard deviations, NaN where strengths of dropout oppose each other. diversity_gain_<kernel>: ln(Vendi / Vendi of the baseline's set).
    efficiency_<kernel>: regularisation_gain / diversity_gain, NaN where the interval of the latter contains 0 or is not known.
    mean_alpha_shift: of alpha of W, mean over layers. <benefit>_gain: over the baseline.
    """
    conditions = features.conditions.iloc[1:].reset_index(drop=True)
    families = conditions["family"].to_numpy()
    table = conditions[["condition", "family", "kind", "strength", "training_set"]].assign(n=shift.n.astype(int))
    draws = shift.draws()
    for family in options.controls:
        members = np.flatnonzero(families == family)
        order = members[np.argsort(conditions["strength"].to_numpy()[members])]
        strengths = conditions["strength"].to_numpy(dtype=float)[order]
        point, residual = nearest_on_path(shift.unbiased, order, strengths)
        drawn = nearest_on_path(draws, order, strengths)
        table[f"{family}_equivalent"] = point
        _add_interval(table, f"{family}_equivalent", drawn[0], options.level)
        table[f"{family}_residual"] = residual
        _add_interval(table, f"{family}_residual", drawn[1], options.level)
        # A member of the path lies on it, so its strongest does not point beyond.
        table[f"{family}_beyond"] = (families != family) & (point >= strengths.max(initial=0.0))
    direction = family_weights(families, "dropout")
    if opposed(shift, families, "dropout", options.level):
        direction = direction * np.nan
    table["regularisation_gain"], drawn_gain = signed_length(shift.unbiased, draws, direction)
    _add_interval(table, "regularisation_gain", drawn_gain, options.level)
    _add_diversity(table, drawn_gain, diversity, features.conditions["training_set"].iloc[0], options)
    table["mean_alpha_shift"] = _mean_alpha(features)
    for benefit in BENEFITS:
        rows = [gains.gain(name, benefit, options.level) for name in table["condition"]]
        table[[f"{benefit}_gain", f"{benefit}_gain_low", f"{benefit}_gain_high"]] = np.reshape(rows, (-1, 3))
    return table


def nearest_on_path(gram: np.ndarray, order: np.ndarray, strengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point on the polyline through 0 and the shifts of conditions order, for every condition.

    gram (..., C, C): cross-fitted inner products. order (K,): the path's conditions by rising strengths (K,). Returns
    the strength, linear along each segment, and the unexplained share of the condition's squared length (1 at strength
    0), both (..., C); NaN where the squared length is not positive or the path is empty. Squared distances are
    cross-fitted: plain ones are too large by the path's own noise, most at its corners, and so pull equivalents off
    them.
    """
    length = np.diagonal(gram, axis1=-2, axis2=-1)
    if not len(order):
        return np.full(length.shape, np.nan), np.full(length.shape, np.nan)
    best, where = length.copy(), np.zeros_like(length)
    for k, end in enumerate(order):
        start = order[k - 1] if k else None
        low = strengths[k - 1] if k else 0.0
        zero = np.zeros_like(length)
        to_end, end_end = gram[..., :, end], gram[..., end, end, None]
        to_start = gram[..., :, start] if k else zero
        start_start = gram[..., start, start, None] if k else zero
        start_end = gram[..., start, end, None] if k else zero
        constant = length - 2 * to_start + start_start
        linear = 2 * (to_start - to_end - start_start + start_end)
        square = start_start - 2 * start_end + end_end
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = np.where(square > 0, np.clip(-linear / (2 * square), 0, 1), 1.0)
        for share in (inside, np.ones_like(length)):
            distance = constant + share * linear + share**2 * square
            nearer = distance < best
            best = np.where(nearer, distance, best)
            where = np.where(nearer, low + share * (strengths[k] - low), where)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.where(length > 0, np.clip(best / length, 0, 1), np.nan)
    residual = np.where(residual < 1e-9, 0.0, residual)  # a condition on its own path: rounding is no residual
    return np.where(length > 0, where, np.nan), residual


def signed_length(gram: np.ndarray, draws: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed length (C,) of every shift along a combination of shifts, and draws (draws, C) whose quantiles bound it.

    NaN where the direction has no positive length. The draws are pivotal: estimate - (numerator - estimate *
    denominator) / observed denominator, with numerator and denominator of the simulated experiments.
    """
    along = gram @ direction
    size = np.sqrt(along @ direction) if along @ direction > 0 else np.nan
    length = along / size
    drawn = draws @ direction
    drawn_size = np.sqrt(np.maximum(drawn @ direction, 0.0))
    return length, length - (drawn - length * drawn_size[:, None]) / size


def log_vendi(diversity: pd.DataFrame, training_sets: Iterable[str]) -> dict[str, np.ndarray]:
    """ln(Vendi) by kernel: (sets, 2) of ln score and its standard deviation, NaN where not known.

    Scores of order 1, mean over classes. The deviation is read off the scores' intervals, taken as symmetric 95 % ones
    (which may reach below 0, so on the linear scale, divided by the score); it says how well the score is known, not
    how it would vary with another training set.
    """
    scores = diversity[(diversity["order"].astype(str) == "1") & (diversity["label"] == "mean")]
    logs = {}
    for kernel, rows in scores.groupby("kernel"):
        rows = rows.drop_duplicates("training_set").set_index("training_set")[["score", "low", "high"]].astype(float)
        rows = rows.reindex(training_sets)
        deviation = (rows["high"] - rows["low"]) / (2 * stats.norm.ppf((1 + SCORE_CONFIDENCE) / 2)) / rows["score"]
        logs[str(kernel)] = np.column_stack([np.log(rows["score"]), deviation])
    return logs


def vendi_gains(diversity: pd.DataFrame, training_sets: pd.Series, baseline: str) -> dict[str, np.ndarray]:
    """ln(Vendi / Vendi of the baseline's set) by kernel: (conditions, 2) of gain and its standard deviation."""
    gains = {}
    for kernel, logs in log_vendi(diversity, [baseline, *training_sets]).items():
        gain, spread = logs[1:, 0] - logs[0, 0], np.hypot(logs[1:, 1], logs[0, 1])
        gains[kernel] = np.column_stack([gain, np.where(training_sets == baseline, 0.0, spread)])
    return gains


def _add_diversity(
    table: pd.DataFrame, drawn_gain: np.ndarray, diversity: pd.DataFrame, baseline: str, options: Options
) -> None:
    z = options.generator("diversity").standard_normal((len(drawn_gain), 1))
    for kernel, columns in vendi_gains(diversity, table["training_set"], baseline).items():
        gain, spread = columns.T
        half = stats.norm.ppf(1 - options.level / 2) * spread
        safe = np.where(np.abs(gain) > half, gain, np.nan)
        table[f"diversity_gain_{kernel}"] = gain
        table[f"diversity_gain_{kernel}_low"], table[f"diversity_gain_{kernel}_high"] = gain - half, gain + half
        table[f"efficiency_{kernel}"] = table["regularisation_gain"] / safe
        _add_interval(table, f"efficiency_{kernel}", drawn_gain / (safe + spread * z), options.level)


def _mean_alpha(features: Features) -> np.ndarray:
    """Shift of alpha of W, mean over layers, for every condition but the baseline."""
    chosen = ((features.names["measure"] == "alpha") & (features.names["matrix"] == "W")).to_numpy()
    chosen = chosen & np.isfinite(features.vectors).all(axis=0)
    alpha = features.vectors[:, chosen].mean(axis=1) if chosen.any() else np.full(len(features.vectors), np.nan)
    means = np.array([alpha[features.group == index].mean() for index in range(len(features.conditions))])
    return means[1:] - means[0]


def _add_interval(table: pd.DataFrame, name: str, drawn: np.ndarray, level: float) -> None:
    """Percentiles over draws (draws, C), the estimate included; NaN where fewer than half of the draws are numbers."""
    usable = np.isfinite(drawn).mean(axis=0) >= 0.5 if len(drawn) else np.zeros(len(table), dtype=bool)
    ends = np.full((2, len(table)), np.nan)
    if usable.any():
        ends[:, usable] = np.nanquantile(drawn[:, usable], [level / 2, 1 - level / 2], axis=0)
    estimate = table[name].to_numpy(dtype=float)
    table[f"{name}_low"], table[f"{name}_high"] = np.minimum(ends[0], estimate), np.maximum(ends[1], estimate)
