"""What a condition gains over the baseline in accuracy and calibration, in and out of distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.noise import fit
from diversity_spectra.compare.shift import group_means

BENEFITS = (
    "id_accuracy",
    "ood_accuracy",
    "natural_accuracy",
    "corruption_accuracy",
    "calibration",
    "ood_calibration",
)


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
        column = BENEFITS.index(benefit)
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


def benefits(evaluation: pd.DataFrame, conditions: list[str]) -> Benefits:
    """Benefits of one model's conditions.

    Out-of-distribution accuracy is the mean over kinds of shift (natural, corruption) of the mean over their sets, so
    that many corruptions do not drown one natural set. Calibration is minus the expected calibration error.
    """
    evaluation = evaluation[evaluation["condition"].isin(conditions)]
    runs = evaluation.groupby(["condition", "seed"]).size().index
    per_run = pd.DataFrame(index=runs, columns=list(BENEFITS), dtype=float)

    def kind(score: str, name: str) -> pd.Series:
        chosen = evaluation[evaluation["shift"] == name]
        return chosen.groupby(["condition", "seed"])[score].mean().reindex(runs)

    per_run["id_accuracy"] = kind("accuracy", "none")
    per_run["natural_accuracy"] = kind("accuracy", "natural")
    per_run["corruption_accuracy"] = kind("accuracy", "corruption")
    per_run["ood_accuracy"] = per_run[["natural_accuracy", "corruption_accuracy"]].mean(axis=1)
    per_run["calibration"] = -kind("ece", "none")
    per_run["ood_calibration"] = -pd.concat([kind("ece", "natural"), kind("ece", "corruption")], axis=1).mean(axis=1)
    group = per_run.index.get_level_values("condition").map(conditions.index).to_numpy(dtype=int)
    values = per_run.to_numpy(dtype=float)
    noise = fit(values, group, np.arange(len(BENEFITS)))
    factor = np.ones(len(conditions))
    factor[: len(noise.factor)] = noise.factor
    mean, count = group_means(values, group, len(conditions))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = noise.sd**2 * factor[:, None] / count
    return Benefits(conditions, mean, np.where(count > 0, variance, np.nan), count[:, 0].astype(int), noise.df)
