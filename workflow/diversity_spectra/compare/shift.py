"""Shift of every measure of every matrix from the plain fine-tune, beside its noise floor."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.features import Features
from diversity_spectra.compare.noise import Noise
from diversity_spectra.compare.options import Options
from diversity_spectra.spectra.kinds import COMPARED


def shift_table(features: Features, noise: Noise, options: Options) -> pd.DataFrame:
    """One row per condition, layer, matrix and measure: mean over the condition's runs minus mean over the baseline's.

    shift: in the measure's own unit, log10 where `unit` says so, with `correction` (the decay arithmetic) already in
    it. standardised: shift / noise_sd, the run-to-run standard deviation. standard_error: of shift. minimum_detectable:
    the shift found with probability `options.power` by a two-sided test at `options.level`. q: Benjamini-Hochberg over
    the rows with the same test_family.
    """
    groups = len(features.conditions)
    mean, count = group_means(features.vectors, features.group, groups)
    correction = group_means(features.correction, features.group, groups)[0]
    frames = []
    for index in range(1, groups):
        with np.errstate(divide="ignore", invalid="ignore"):
            error = noise.sd * np.sqrt(noise.factor[index] / count[index] + noise.factor[0] / count[0])
        shift = mean[index] - mean[0]
        frame = features.names.assign(
            condition=features.conditions["condition"].iloc[index],
            unit=np.where([COMPARED[name].log for name in features.names["measure"]], "log10", "linear"),
            shift=shift,
            correction=correction[index] - correction[0],
            standardised=shift / noise.sd,
            standard_error=error,
            noise_sd=noise.sd,
            minimum_detectable=detectable(error, noise.df, options),
            t=shift / error,
            n=count[index].astype(int),
            n_baseline=count[0].astype(int),
        )
        frames.append(_without_copies(frame, decayed=bool((correction[index] != 0).any())))
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    table = table[table["shift"].notna()].reset_index(drop=True)
    table["p"] = 2 * stats.t.sf(table["t"].abs(), max(noise.df, 1))
    table["q"] = table.groupby("test_family")["p"].transform(benjamini_hochberg)
    return table


def group_means(values: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (groups, features) over the runs where a feature is finite, and their count; NaN where there is none."""
    finite = np.isfinite(values)
    total, count = np.zeros((groups, values.shape[1])), np.zeros((groups, values.shape[1]))
    np.add.at(total, group, np.where(finite, values, 0.0))
    np.add.at(count, group, finite)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / np.maximum(count, 1), np.nan), count


def detectable(error: np.ndarray | float, df: float, options: Options) -> np.ndarray | float:
    """Minimum detectable effect: (t_{1 - level/2} + t_{power}) standard errors (Bloom 1995, doi
    10.1177/0193841X9501900504)."""
    if df < 1:
        return error * np.nan
    return (stats.t.ppf(1 - options.level / 2, df) + stats.t.ppf(options.power, df)) * error


def benjamini_hochberg(p: pd.Series) -> pd.Series:
    """q-values of p; NaN stays NaN and does not count (Benjamini & Hochberg 1995)."""
    q = p.copy().astype(float)
    known = p.notna()
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


def _without_copies(frame: pd.DataFrame, decayed: bool) -> pd.DataFrame:
    """Corrected dW only where it differs from dW; then raw dW is no evidence and forms a test family of its own."""
    family = frame["matrix"].replace("dW_corrected", "dW")
    if not decayed:
        return frame.assign(test_family=family)[frame["matrix"] != "dW_corrected"]
    return frame.assign(test_family=np.where(frame["matrix"] == "dW", "dW, decay not corrected", family))
