"""Does the metric predict? Rank correlations, over kinds of conditions, of predictors with the benefits of other runs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diversity_spectra.compare.benefits import BENEFITS
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.ranks import FEWEST, orders, rank_interval, searched

TARGETS = ("ood_accuracy", "id_accuracy", "calibration")


def validation_table(metric: pd.DataFrame, halves: list[pd.DataFrame], plain: str, options: Options) -> pd.DataFrame:
    """Spearman correlation of every predictor with every benefit over kinds, with its interval and p.

    metric: of one model. halves: `halves.halves` of its runs. plain: the baseline's training set. The unit is a kind, with the
    means over its strengths, which are not independent. scope: `data` = kinds with another training set, where all predictors
    vary; `all` = every trained kind. Combinations are of kinds that are there already, and left out.
    """
    used = ~metric["family"].isin(("checkpoint", "combinations"))
    kinds = metric["family"] + " " + metric["kind"].fillna("")
    other = np.arange(len(halves)) ^ 1  # the half that a predictor's benefit is from
    rows = []
    for scope, chosen in {"data": used & (metric["training_set"] != plain), "all": used}.items():
        tables = pd.concat([table[chosen] for table in halves], keys=range(len(halves)))
        means = tables.groupby([tables.index.get_level_values(0), [*kinds[chosen]] * len(halves)], sort=False).mean()
        names = [name for name in means if name not in BENEFITS]
        predictors = means[names].to_numpy(dtype=float).reshape(len(halves), -1, len(names))
        for target in TARGETS:
            benefit = means[target].to_numpy(dtype=float).reshape(len(halves), -1)[other]
            known = np.isfinite(benefit).all(axis=0)
            rng = options.generator(f"validation/{scope}/{target}")
            shuffled = orders(int(known.sum()), options.permutations, rng)
            found = searched(predictors[:, known], benefit[:, known], shuffled)
            for name, correlation, p, n in zip(names, *found, strict=True):
                enough = np.isfinite(correlation) and n > FEWEST
                low, high, _ = rank_interval(correlation, n, options.level) if enough else [np.nan] * 3
                row = {"scope": scope, "predictor": name, "benefit": target, "correlation": correlation}
                rows.append({**row, "low": low, "high": high, "p": p, "n": n})
    return pd.DataFrame(rows)
