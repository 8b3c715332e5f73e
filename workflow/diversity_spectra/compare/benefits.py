"""What a condition gains over the baseline in accuracy and calibration, in and out of distribution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.shift import group_means

KINDS = ("none", "natural", "corruption")  # of test sets, by how they are shifted from the training images

# Each benefit by its score and kind of test set, as `by_run` gives them.
BENEFITS = {
    "id_accuracy": ("accuracy", "none"),
    "ood_accuracy": ("accuracy", "ood"),
    "natural_accuracy": ("accuracy", "natural"),
    "corruption_accuracy": ("accuracy", "corruption"),
    "calibration": ("ece", "none"),
    "ood_calibration": ("ece", "ood"),
}
ROUNDING = 1e-10  # of a score: smaller differences between runs are none
SIGNS = {"accuracy": 1.0, "ece": -1.0}  # the expected calibration error is better the lower it is


@dataclass(frozen=True)
class Benefits:
    """Means over the runs of each condition and their variances.

    conditions: names, in the caller's order, the baseline first. mean, variance (conditions, benefits): the mean over
    runs and its variance; NaN where not measured. freedom (conditions, benefits): degrees of freedom of the variances.
    n (conditions, benefits): runs in which it was measured.
    """

    conditions: list[str]
    mean: np.ndarray
    variance: np.ndarray
    freedom: np.ndarray
    n: np.ndarray

    def contrast(self, weights: dict[str, float], benefit: str, level: float) -> tuple[float, float, float]:
        """Weighted sum of condition means with its interval at 1 - level: (effect, low, high), NaN if not known.

        Student's with the degrees of freedom of Welch (1947, doi 10.1093/biomet/34.1-2.28) and Satterthwaite: each
        condition varies in each benefit in its own way.
        """
        column = list(BENEFITS).index(benefit)
        rows = [self.conditions.index(name) for name in weights]
        factors = np.array(list(weights.values()))
        effect = float(factors @ self.mean[rows, column])
        parts = factors**2 * self.variance[rows, column]
        with np.errstate(invalid="ignore", divide="ignore"):
            df = parts.sum() ** 2 / (parts**2 / self.freedom[rows, column]).sum()
        half = stats.t.ppf(1 - level / 2, df) * np.sqrt(parts.sum())
        return effect, effect - half, effect + half

    def runs(self, conditions: Iterable[str], benefit: str) -> int:
        """Runs of these conditions in which the benefit was measured."""
        rows = [self.conditions.index(name) for name in conditions]
        return int(self.n[rows, list(BENEFITS).index(benefit)].sum())

    def gain(self, condition: str, benefit: str, level: float) -> tuple[float, float, float]:
        """Gain of a condition over the baseline, with interval."""
        if condition == self.conditions[0]:
            return 0.0, 0.0, 0.0
        return self.contrast({condition: 1.0, self.conditions[0]: -1.0}, benefit, level)


def by_run(evaluation: pd.DataFrame, score: str) -> pd.DataFrame:
    """A score of each run (condition, seed) on each kind of test set: its mean over the sets of that kind.

    Columns are KINDS, NaN where there is no such set, and `ood`, out of distribution: the mean over the natural and the
    corruption kind, as far as there are both, so that many corruptions do not drown one natural set.
    """
    of_kind = {kind: evaluation[evaluation["shift"] == kind] for kind in KINDS}
    scores = pd.DataFrame({kind: sets.groupby(["condition", "seed"])[score].mean() for kind, sets in of_kind.items()})
    return scores.assign(ood=scores[["natural", "corruption"]].mean(axis=1))


def benefits_by_run(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Every one of `BENEFITS` of each run (condition, seed)."""
    scores = {score: sign * by_run(evaluation, score) for score, sign in SIGNS.items()}
    return pd.DataFrame({name: scores[score][kind] for name, (score, kind) in BENEFITS.items()})


def benefits(evaluation: pd.DataFrame, conditions: list[str]) -> Benefits:
    """Benefits of one model's conditions."""
    per_run = benefits_by_run(evaluation[evaluation["condition"].isin(conditions)])
    group = per_run.index.get_level_values("condition").map(conditions.index).to_numpy(dtype=int)
    values = per_run.to_numpy(dtype=float)
    mean, count = group_means(values, group, len(conditions))
    square, _ = group_means((values - mean[group]) ** 2, group, len(conditions))
    square, freedom = np.nan_to_num(square) * count, np.maximum(count - 1, 0)
    # Where a condition's runs do not differ, or it has one, the variance of all conditions stands in.
    own = square > ROUNDING**2
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (square * own).sum(axis=0) / (freedom * own).sum(axis=0)
        variance = np.where(own, square / freedom, pooled) / count
    freedom = np.where(own, freedom, (freedom * own).sum(axis=0))
    return Benefits(conditions, mean, np.where(count > 0, variance, np.nan), freedom, count.astype(int))
