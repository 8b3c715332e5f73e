"""What a condition gains over the baseline in accuracy and calibration, in and out of distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.noise import fit
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
SIGNS = {"accuracy": 1.0, "ece": -1.0}  # the expected calibration error is better the lower it is


@dataclass(frozen=True)
class Benefits:
    """Means over the runs of each condition and their variances.

    conditions: names, in the caller's order, the baseline first. mean, variance (conditions, benefits): the mean over
    runs and its variance; NaN where not measured. n (conditions,): runs. df: degrees of freedom of the variances.
    """

    conditions: list[str]
    mean: np.ndarray
    variance: np.ndarray
    n: np.ndarray
    df: float

    def contrast(self, weights: dict[str, float], benefit: str, level: float) -> tuple[float, float, float]:
        """Weighted sum of condition means with its interval at 1 - level: (effect, low, high), NaN if not known."""
        column = list(BENEFITS).index(benefit)
        rows = [self.conditions.index(name) for name in weights]
        factors = np.array(list(weights.values()))
        effect = float(factors @ self.mean[rows, column])
        half = stats.t.ppf(1 - level / 2, max(self.df, 1)) * np.sqrt(float(factors**2 @ self.variance[rows, column]))
        return effect, effect - half, effect + half

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


def benefits(evaluation: pd.DataFrame, conditions: list[str]) -> Benefits:
    """Benefits of one model's conditions."""
    evaluation = evaluation[evaluation["condition"].isin(conditions)]
    scores = {score: sign * by_run(evaluation, score) for score, sign in SIGNS.items()}
    per_run = pd.DataFrame({name: scores[score][kind] for name, (score, kind) in BENEFITS.items()})
    group = per_run.index.get_level_values("condition").map(conditions.index).to_numpy(dtype=int)
    values = per_run.to_numpy(dtype=float)
    noise = fit(values, group, np.arange(len(BENEFITS)))
    factor = np.ones(len(conditions))
    factor[: len(noise.factor)] = noise.factor
    mean, count = group_means(values, group, len(conditions))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = noise.sd**2 * factor[:, None] / count
    return Benefits(conditions, mean, np.where(count > 0, variance, np.nan), count[:, 0].astype(int), noise.df)
