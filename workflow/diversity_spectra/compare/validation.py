"""Does the metric predict? Rank correlations, over conditions, of predictors with benefits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.options import Options

TARGETS = ("ood_accuracy_gain", "id_accuracy_gain", "calibration_gain")


def validation_table(metric: pd.DataFrame, plain: str, options: Options) -> pd.DataFrame:
    """Spearman correlation of every predictor with every benefit, with its interval.

    metric: of one model. plain: the baseline's training set. scope: `data` = conditions with another training set
    (augmentation, synthetic, combinations with them), where all predictors vary; `all` = every trained condition.
    Correlations do not change if all conditions move together, so the noise of the shared baseline cannot create them.
    """
    predictors = [
        *(name for name in ("dropout_equivalent", "weight_decay_equivalent", "length_along_dropout") if name in metric),
        *(name for name in metric if name.startswith(("diversity_gain_", "efficiency_")) and not _is_end(name)),
        "mean_alpha_shift",
    ]
    trained = metric[metric["family"] != "checkpoint"]
    scopes = {"data": trained[trained["training_set"] != plain], "all": trained}
    rows = []
    for scope, part in scopes.items():
        for target in TARGETS:
            for predictor in predictors:
                pair = part[[predictor, target]].to_numpy(dtype=float)
                pair = pair[np.isfinite(pair).all(axis=1)]
                estimate, low, high = rank_correlation(pair, options.level)
                rows.append(
                    {
                        "scope": scope,
                        "predictor": predictor,
                        "benefit": target.removesuffix("_gain"),
                        "correlation": estimate,
                        "low": low,
                        "high": high,
                        "n": len(pair),
                    }
                )
    return pd.DataFrame(rows)


def rank_correlation(pair: np.ndarray, level: float) -> tuple[float, float, float]:
    """Spearman correlation of pair (n, 2) with its interval; NaN for n < 4 or no variation, the interval for n < 5.

    Normal on Fisher's scale with the variance (1 + r^2 / 2) / (n - 3) (Bonett & Wright 2000, doi 10.1007/BF02294183).
    r is cut to 1 - 1 / n^2 in size there: equal rankings of a few conditions do not prove a correlation of 1.
    """
    n = len(pair)
    if n < 4 or (np.ptp(pair, axis=0) == 0).any():
        return np.nan, np.nan, np.nan
    estimate = float(np.corrcoef(stats.rankdata(pair, axis=0).T)[0, 1])
    if n < 5:
        return estimate, np.nan, np.nan
    r = np.clip(estimate, -1 + n**-2, 1 - n**-2)
    half = stats.norm.ppf(1 - level / 2) * np.sqrt((1 + r**2 / 2) / (n - 3))
    low, high = np.tanh([np.arctanh(r) - half, np.arctanh(r) + half])
    return estimate, float(min(low, estimate)), float(max(high, estimate))


def _is_end(name: str) -> bool:
    return name.endswith(("_low", "_high"))
