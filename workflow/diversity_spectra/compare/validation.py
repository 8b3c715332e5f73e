"""Does the metric predict? Rank correlations, over conditions, of predictors with benefits."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.options import Options

TARGETS = ("ood_accuracy_gain", "id_accuracy_gain", "calibration_gain")


def validation_table(metric: pd.DataFrame, plain: str, options: Options) -> pd.DataFrame:
    """Spearman correlation of every predictor with every benefit, with a bootstrap interval over conditions.

    metric: of one model. plain: the baseline's training set. scope: `data` = conditions with another training set
    (augmentation, synthetic, combinations with them), where all predictors vary; `all` = every trained condition.
    Correlations do not change if all conditions move together, so the noise of the shared baseline cannot create them.
    """
    predictors = [
        *(name for name in ("dropout_equivalent", "weight_decay_equivalent", "regularisation_gain") if name in metric),
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
                # Bootstrap draws go by position: an order set by the values keeps them free of names.
                pair = pair[np.lexsort(pair.T)]
                estimate, low, high = rank_correlation(pair, options)
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


def rank_correlation(pair: np.ndarray, options: Options) -> tuple[float, float, float]:
    """Spearman correlation of pair (n, 2) with its percentile bootstrap interval; NaN for n < 4 or no variation."""
    if len(pair) < 4 or (np.ptp(pair, axis=0) == 0).any():
        return np.nan, np.nan, np.nan
    rng = options.generator("validation")
    picked = rng.integers(len(pair), size=(options.bootstrap, len(pair)))
    drawn = np.concatenate([pair[None], pair[picked]])
    ranks = stats.rankdata(drawn, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred**2).sum(axis=1).prod(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.where(scale > 0, centred.prod(axis=2).sum(axis=1) / scale, np.nan)
    low, high = np.nanquantile(correlation[1:], [options.level / 2, 1 - options.level / 2])
    return float(correlation[0]), float(low), float(high)


def _is_end(name: str) -> bool:
    return name.endswith(("_low", "_high"))
