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
from diversity_spectra.compare.features import Features, without_failed_fits
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import of_role

SCORE_CONFIDENCE = 0.95  # of the intervals of Vendi scores, whatever the level of the comparison
FITTED = 50  # eigenvalues from which alpha counts in a mean over layers
SCORE_FREEDOM = 4  # degrees of freedom of their Student quantile: those of the default's 5 subsamples


def metric_table(
    features: Features, shift: Shifts, gains: Benefits, diversity: pd.DataFrame, alpha: pd.Series, options: Options
) -> pd.DataFrame:
    """One row per condition but the baseline. alpha: of `alpha_by_run`.

    <family>_equivalent (low, high): strength on the family's path nearest to the condition's shift; <family>_residual:
    share of the squared shift that lies off the path there; <family>_beyond: the nearest point is the strongest
    strength swept, so the true equivalent may lie beyond. steps_equivalent, ...: likewise, the factor of the baseline's steps,
    where others were run. length_along_dropout: signed length of the shift along the
    dropout direction, in noise standard deviations, NaN where strengths of dropout oppose each other;
    length_along_weight_decay: likewise. length: of the whole shift, 0 where it is no longer than its noise.
    diversity_gain_<kernel>: ln(Vendi / Vendi of the baseline's set). efficiency_<kernel>: length_along_dropout /
    diversity_gain, NaN where the interval of the latter contains 0 or is not known.
    mean_alpha_shift: mean of `alpha_by_run`, from the baseline's. <benefit>_gain: over the baseline.
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
    if (ends := _ends_of_steps(conditions)) is not None:
        table["steps_equivalent"], table["steps_residual"] = nearest_in_steps(shift.unbiased, conditions)
        for name, drawn in zip(("equivalent", "residual"), nearest_in_steps(draws, conditions), strict=True):
            _add_interval(table, f"steps_{name}", drawn, options.level)
        table["steps_beyond"] = table["steps_equivalent"].isin(ends) & (conditions["kind"] != "steps")
    direction = family_weights(families, "dropout")
    if opposed(shift, families, "dropout", options.level):
        direction = direction * np.nan
    table["length_along_dropout"], drawn_gain = signed_length(shift.unbiased, draws, direction)
    _add_interval(table, "length_along_dropout", drawn_gain, options.level)
    decay = family_weights(families, "weight_decay")
    if opposed(shift, families, "weight_decay", options.level):
        decay = decay * np.nan
    table["length_along_weight_decay"], drawn = signed_length(shift.unbiased, draws, decay)
    _add_interval(table, "length_along_weight_decay", drawn, options.level)
    table["length"] = np.sqrt(np.maximum(np.diagonal(shift.unbiased), 0.0))
    _add_diversity(table, drawn_gain, diversity, features.conditions["training_set"].iloc[0], options)
    alpha = alpha.groupby("condition").mean()
    table["mean_alpha_shift"] = table["condition"].map(
        alpha - alpha.get(features.conditions["condition"].iloc[0], np.nan)
    )
    for benefit in BENEFITS:
        rows = [gains.gain(name, benefit, options.level) for name in table["condition"]]
        table[[f"{benefit}_gain", f"{benefit}_gain_low", f"{benefit}_gain_high"]] = np.reshape(rows, (-1, 3))
    return table


def _ends_of_steps(conditions: pd.DataFrame) -> set[float] | None:
    """The ends of the path of steps; None where no other number of steps was run."""
    steps = conditions["strength"][conditions["family"].isin(of_role("progress")) & (conditions["kind"] == "steps")]
    return {*[strength for strength in (steps.min(), steps.max()) if strength != 1]} if len(steps) else None


def nearest_in_steps(gram: np.ndarray, conditions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """`nearest_on_path` of the factors of the steps: at 1 lies the baseline, and the path leads away from it both ways."""
    steps = conditions["family"].isin(of_role("progress")) & (conditions["kind"] == "steps")
    found = []
    for side in (-1, 1):
        factors = conditions["strength"][steps & (side * (conditions["strength"] - 1) > 0)].sort_values(
            ascending=side > 0
        )
        order = conditions.index.get_indexer(factors.index)
        found.append(nearest_on_path(gram, order, factors.to_numpy(dtype=float), 1.0))
    (less, less_left), (more, more_left) = found
    nearer = np.isnan(less_left) | (more_left <= less_left)
    return np.where(nearer, more, less), np.where(nearer, more_left, less_left)


def nearest_on_path(
    gram: np.ndarray, order: np.ndarray, strengths: np.ndarray, origin: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point on the polyline through 0 and the shifts of conditions order, for every condition.

    gram (..., C, C): cross-fitted inner products. order (K,): the path's conditions away from 0 with their strengths (K,), at
    0 the strength is `origin`. Returns the strength, linear along each segment, and the unexplained share of the condition's
    squared length (1 at 0), both (..., C); NaN where the squared length is not positive or the path is empty. Squared
    distances are cross-fitted: plain ones are too large by the path's own noise, most at its corners, and so pull
    equivalents off them.
    """
    length = np.diagonal(gram, axis1=-2, axis2=-1)
    if not len(order):
        return np.full(length.shape, np.nan), np.full(length.shape, np.nan)
    best, where = length.copy(), np.full_like(length, origin)
    for k, end in enumerate(order):
        start = order[k - 1] if k else None
        low = strengths[k - 1] if k else origin
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


def of_sets(diversity: pd.DataFrame) -> pd.DataFrame:
    """Scores of whole training sets: means over classes, or of all images together where no class was measured alone."""
    means = diversity["label"] == "mean"
    return diversity[means if means.any() else diversity["label"] == "overall"]


def log_vendi(diversity: pd.DataFrame, training_sets: Iterable[str]) -> dict[str, np.ndarray]:
    """ln(Vendi) by kernel: (sets, 2) of ln score and its standard error, NaN where not known.

    Scores of order 1, as `of_sets` has them. The error is read off the scores' intervals, which are symmetric, of 95 % and
    Student's (and may reach below 0, so on the linear scale, divided by the score); it says how well the score is known,
    not how it would vary with another training set.
    """
    # A table read from CSV has numbers for the orders.
    scores = of_sets(diversity[diversity["order"].astype(float) == 1])
    logs = {}
    for kernel, rows in scores.groupby("kernel"):
        rows = rows.drop_duplicates("training_set").set_index("training_set")[["score", "low", "high"]].astype(float)
        rows = rows.reindex(training_sets)
        deviation = (rows["high"] - rows["low"]) / (2 * score_quantile(1 - SCORE_CONFIDENCE)) / rows["score"]
        logs[str(kernel)] = np.column_stack([np.log(rows["score"]), deviation])
    return logs


def score_quantile(level: float) -> float:
    """Standard errors on either side of a difference of ln(Vendi) in its interval at 1 - level."""
    return float(stats.t.ppf(1 - level / 2, SCORE_FREEDOM))


def vendi_gains(diversity: pd.DataFrame, training_sets: pd.Series, baseline: str) -> dict[str, np.ndarray]:
    """ln(Vendi / Vendi of the baseline's set) by kernel: (conditions, 2) of gain and its standard error."""
    gains = {}
    for kernel, logs in log_vendi(diversity, [baseline, *training_sets]).items():
        gain, spread = logs[1:, 0] - logs[0, 0], np.hypot(logs[1:, 1], logs[0, 1])
        gains[kernel] = np.column_stack([gain, np.where(training_sets == baseline, 0.0, spread)])
    return gains


def _add_diversity(
    table: pd.DataFrame, drawn_gain: np.ndarray, diversity: pd.DataFrame, baseline: str, options: Options
) -> None:
    t = options.generator("diversity").standard_t(SCORE_FREEDOM, (len(drawn_gain), 1))
    for kernel, columns in vendi_gains(diversity, table["training_set"], baseline).items():
        gain, spread = columns.T
        half = score_quantile(options.level) * spread
        safe = np.where(np.abs(gain) > half, gain, np.nan)
        table[f"diversity_gain_{kernel}"] = gain
        table[f"diversity_gain_{kernel}_low"], table[f"diversity_gain_{kernel}_high"] = gain - half, gain + half
        table[f"efficiency_{kernel}"] = table["length_along_dropout"] / safe
        _add_interval(table, f"efficiency_{kernel}", drawn_gain / (safe + spread * t), options.level)


def alpha_by_run(spectra: pd.DataFrame) -> pd.Series:
    """alpha of W of every run (condition, seed) of which a layer could be fitted: mean over layers.

    Of layers that could be fitted in all of these, but for the last, the classifier, and those of fewer than
    `FITTED` eigenvalues: alpha of ten eigenvalues varies from run to run by half of alpha - 1, and would carry the mean.
    """
    rows = without_failed_fits(spectra[(spectra["matrix"] == "W") & (spectra["depth"] < spectra["depth"].max())])
    if "num_evals" in rows:
        rows = rows[rows["num_evals"].astype(float) >= FITTED]
    wide = rows.pivot_table(index=["condition", "seed"], columns="layer", values="alpha")
    return wide.dropna(axis=1).mean(axis=1)


def weighted_vendi(quality: pd.DataFrame | None, training_sets: pd.Series, baseline: str) -> pd.DataFrame:
    """ln(WVS / WVS of the baseline's set) of every condition, by measure: columns `wvs_...` of the study's metric and ours."""
    if quality is None or "measure" not in quality:
        return pd.DataFrame(index=training_sets.index)
    found = quality[quality["measure"].str.startswith("wvs_") & (quality["training_set"] != "synthetic")]
    wide = found.pivot_table(index="training_set", columns="measure", values="value", dropna=False).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(wide.reindex([baseline, *training_sets]))
    return pd.DataFrame(
        (logs.iloc[1:] - logs.iloc[0]).replace([np.inf, -np.inf], np.nan).to_numpy(), training_sets.index, logs.columns
    )


def _add_interval(table: pd.DataFrame, name: str, drawn: np.ndarray, level: float) -> None:
    """Percentiles over draws (draws, C), the estimate included; NaN where fewer than half of the draws are numbers."""
    usable = np.isfinite(drawn).mean(axis=0) >= 0.5 if len(drawn) else np.zeros(len(table), dtype=bool)
    ends = np.full((2, len(table)), np.nan)
    if usable.any():
        ends[:, usable] = np.nanquantile(drawn[:, usable], [level / 2, 1 - level / 2], axis=0)
    estimate = table[name].to_numpy(dtype=float)
    table[f"{name}_low"], table[f"{name}_high"] = np.minimum(ends[0], estimate), np.maximum(ends[1], estimate)
