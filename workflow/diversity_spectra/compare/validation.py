"""Does the metric predict? Rank correlations, over conditions, of predictors with benefits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diversity_spectra.compare.options import Options
from diversity_spectra.compare.relation import rank_correlation
from diversity_spectra.compare.shift import benjamini_hochberg

TARGETS = ("ood_accuracy_gain", "id_accuracy_gain", "calibration_gain")


def validation_table(metric: pd.DataFrame, plain: str, options: Options) -> pd.DataFrame:
    """Spearman correlation of every predictor with every benefit, with its interval.

    metric: of one model. plain: the baseline's training set. scope: `data` = conditions with another training set
    (augmentation, synthetic, combinations with them), where all predictors vary; `all` = every trained condition.
    q: of p by Benjamini and Hochberg within the scope, for many are tried.
    Correlations do not change if all conditions move together, so the noise of the shared baseline cannot create them.
    """
    predictors = [
        *(name for name in ("dropout_equivalent", "weight_decay_equivalent", "length_along_dropout") if name in metric),
        *(name for name in metric if name.startswith(("diversity_gain_", "efficiency_", "wvs_")) and not _is_end(name)),
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
                estimate, low, high, p = rank_correlation(pair, options.level)
                rows.append(
                    {
                        "scope": scope,
                        "predictor": predictor,
                        "benefit": target.removesuffix("_gain"),
                        "correlation": estimate,
                        "low": low,
                        "high": high,
                        "p": p,
                        "n": len(pair),
                    }
                )
    table = pd.DataFrame(rows)
    return table.assign(q=table.groupby("scope")["p"].transform(benjamini_hochberg))


def _is_end(name: str) -> bool:
    return name.endswith(("_low", "_high"))
