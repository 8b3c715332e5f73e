"""What is left of shifts beyond optimisation: the directions of longer training and of a higher rate projected out.

With the cross-fitted inner products G of shifts and the directions P of the path (linear combinations of shifts), the
parts of the shifts at a right angle to the path have the inner products G - G P (P' G P)^-1 P' G. The path is estimated
too: the projection is made anew in every simulated experiment, so that intervals carry its uncertainty.
docs/method.md, section 7, derives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.alignment import family_weights
from diversity_spectra.compare.crossfit import Shifts
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import of_role

PATHS = {"length": ("steps",), "rate": ("lr",), "both": ("steps", "lr")}  # kinds of optimisation that are projected out
RESOLVED = 5  # simulated experiments beyond a quantile that is read off them
LEAST = 1e-2  # of a path's largest squared length: shorter axes of it are taken to be as long, not to be divided by 0

Interval = tuple[float, float, float]  # estimate, low, high


@dataclass(frozen=True)
class Geometry:
    """Inner products of shifts. gram (C, C): estimates. draws (draws, C, C): of simulated experiments around them."""

    gram: np.ndarray
    draws: np.ndarray

    def beyond(self, path: np.ndarray) -> Geometry:
        """The same of what is left at a right angle to the directions path (K, C).

        What the noise of the path takes from the lengths on average, in the simulated experiments, is given back.
        """
        gram, draws = _project_out(self.gram, path), _project_out(self.draws, path)
        bias = draws.mean(axis=0) - gram if len(draws) else 0.0
        # Once for the estimates, and once more for the draws, which lie around the estimates before their correction.
        return Geometry(gram - bias, draws - 2 * bias)

    def combine(self, weights: np.ndarray) -> Geometry:
        """The same of the combinations of shifts weights (K, C)."""
        return Geometry(weights @ self.gram @ weights.T, weights @ self.draws @ weights.T)


def directions(conditions: pd.DataFrame, kinds: tuple[str, ...]) -> np.ndarray | None:
    """Weights (K, C) of the direction of each kind of optimisation; None where one of them was not run.

    conditions: of the shifts, in their order. A direction is the mean over the kind's factors of the shift, turned round
    where the factor is below 1: towards more steps, or a higher rate.
    """
    progress = conditions["family"].isin(of_role("progress"))
    rows = []
    for kind in kinds:
        member = (progress & (conditions["kind"] == kind)).to_numpy()
        if not member.any():
            return None
        sign = np.sign(np.log(conditions["strength"].to_numpy(dtype=float), where=member, out=np.zeros(len(member))))
        rows.append(sign / member.sum())
    return np.array(rows)


def first_run(conditions: pd.DataFrame, paths: tuple[str, ...]) -> np.ndarray | None:
    """Directions (K, C) of the first of these PATHS that was run; None if none was."""
    found = (directions(conditions, PATHS[name]) for name in paths)
    return next((path for path in found if path is not None), None)


def ratio(numerator: np.ndarray, denominator: np.ndarray, level: float, bounds: tuple[float, float]) -> Interval:
    """numerator[0] / denominator[0] with its interval, from their values in simulated experiments, which follow."""
    return _interval(*_pivot(numerator, denominator), level, bounds)


def _pivot(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, np.ndarray]:
    """A ratio and (numerator - ratio * denominator) of the simulated experiments over the observed denominator.

    Their denominators may be small without harm. NaN where the observed one is not positive.
    """
    size = denominator[0] if denominator[0] > 0 else np.nan
    estimate = numerator[0] / size
    return float(estimate), (numerator[1:] - estimate * denominator[1:]) / size


def _interval(estimate: float, error: np.ndarray, level: float, bounds: tuple[float, float]) -> Interval:
    """All of `bounds` where the estimate or its error is not known."""
    if not (np.isfinite(estimate) and len(error)):
        return np.nan, *bounds
    low, high = estimate - far_quantiles(error, level / 2)[::-1]
    estimate = float(np.clip(estimate, *bounds))
    return estimate, float(np.clip(low, bounds[0], estimate)), float(np.clip(high, estimate, bounds[1]))


def far_quantiles(draws: np.ndarray, share: float) -> np.ndarray:
    """Values (2,) that this share of the draws (n,) is below, and above.

    Of fewer than `RESOLVED` draws no quantile is known; from there on the distance to the median grows as the normal's.
    """
    known = max(share, min(RESOLVED / len(draws), 0.25))
    low, middle, high = np.quantile(draws, [known, 0.5, 1 - known])
    further = stats.norm.ppf(share) / stats.norm.ppf(known)
    return middle + further * np.array([low - middle, high - middle])


def stacked(geometry: Geometry) -> np.ndarray:
    """Estimates and simulated experiments (1 + draws, C, C), the estimates first."""
    return np.concatenate([geometry.gram[None], geometry.draws])


def lengths(gram: np.ndarray) -> np.ndarray:
    """Lengths (..., C) of shifts; 0 where the squared length is not positive."""
    return np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0.0))


def mean_cosine(geometry: Geometry, members: np.ndarray, direction: np.ndarray, level: float) -> Interval:
    """Length-weighted mean cosine of the shifts members (C,) with a combination of shifts direction (C,), with interval.

    sum <shift_c, f> / (|f| sum |shift_c|): a condition that hardly moves hardly counts, and no single cosine needs to be
    identifiable.
    """
    return ratio(*_along(stacked(geometry), members, direction), level, (-1.0, 1.0))


def difference_of_cosines(
    geometry: Geometry, members: np.ndarray, one: np.ndarray, other: np.ndarray, level: float
) -> Interval:
    """`mean_cosine` with direction one (C,) minus that with direction other (C,), with interval."""
    gram = stacked(geometry)
    (plus, error), (minus, minus_error) = (_pivot(*_along(gram, members, direction)) for direction in (one, other))
    return _interval(plus - minus, error - minus_error, level, (-2.0, 2.0))


def _along(gram: np.ndarray, members: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Summed inner products of the members with a direction, and the sizes that they are divided by, each (draws,)."""
    along = gram @ direction
    return along[:, members].sum(axis=1), np.sqrt(np.maximum(along @ direction, 0.0)) * lengths(gram)[:, members].sum(
        axis=1
    )


def share_beyond(plain: Geometry, beyond: Geometry, members: np.ndarray, level: float) -> Interval:
    """Share of the squared lengths of the shifts members (C,) that lies beyond the path, with interval."""
    whole, left = (np.diagonal(stacked(part), axis1=1, axis2=2)[:, members].sum(axis=1) for part in (plain, beyond))
    return ratio(left, whole, level, (0.0, 1.0))


def clear(geometry: Geometry, weights: np.ndarray, level: float) -> bool:
    """Is the summed squared length of the combinations of shifts weights (K, C) beyond the noise, one-sided?"""
    squared = np.einsum("kc,dce,ke->d", weights, stacked(geometry), weights)
    return bool(2 * squared[0] - np.quantile(squared[1:], 1 - level) > 0) if len(squared) > 1 else False


def beyond_table(shift: Shifts, conditions: pd.DataFrame, options: Options) -> pd.DataFrame:
    """One row per condition and path of PATHS that is longer than its noise, but for the conditions of optimisation themselves.

    conditions: of the shifts, in their order. path: what is projected out. explained (low, high): share of the squared shift
    along the path. length: of the rest, in noise standard deviations. <control>_cosine (low, high): of the rest with
    the rest of the control's direction, the condition itself left out of it.
    """
    families = conditions["family"].to_numpy()
    plain = Geometry(shift.unbiased, shift.draws())
    rows = []
    for name, kinds in PATHS.items():
        path = directions(conditions, kinds)
        if path is None or not clear(plain, path, options.level):
            continue
        left = plain.beyond(path)
        for index, row in enumerate(conditions.itertuples()):
            if row.family in of_role("progress"):
                continue
            member = np.arange(len(conditions)) == index
            share, low, high = share_beyond(plain, left, member, options.level)
            found = {"path": name, "condition": row.condition, "explained": 1 - share, "explained_low": 1 - high}
            found |= {"explained_high": 1 - low, "length": lengths(left.gram)[index]}
            for control in options.controls:
                direction = family_weights(families, control, index)
                ends = mean_cosine(left, member, direction, options.level) if direction.any() else (np.nan,) * 3
                found |= dict(zip(_ends(f"{control}_cosine"), ends, strict=True))
            rows.append(found)
    measured = ["path", "condition", *_ends("explained"), "length"]
    return pd.DataFrame(
        rows, columns=measured + [end for control in options.controls for end in _ends(f"{control}_cosine")]
    )


def _ends(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _project_out(gram: np.ndarray, path: np.ndarray) -> np.ndarray:
    """gram (..., C, C) of what is left at a right angle to path (K, C)."""
    along = gram @ path.T
    values, axes = np.linalg.eigh(path @ along)
    # An axis of the path that is no longer than its noise has no direction, and its squared length may be negative; where
    # all of them are, nothing is projected out.
    longest = values[..., -1:]
    values = np.where(longest > 0, np.maximum(values, LEAST * longest), np.inf)
    along = along @ axes
    return gram - (along / values[..., None, :]) @ np.swapaxes(along, -1, -2)
