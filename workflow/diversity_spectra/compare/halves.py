"""Predictors from one half of the runs, benefits from the other: no noise of a run is in both.

A run whose spectrum happens to look regularised may happen to be right more often; means over the same runs then correlate
though no technique does anything. Runs are divided by seed, since those of one seed have noise in common across conditions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from diversity_spectra.compare.alignment import family_weights
from diversity_spectra.compare.crossfit import unbiased_products
from diversity_spectra.compare.features import Features
from diversity_spectra.compare.metric import nearest_on_path, signed_length
from diversity_spectra.compare.options import Options

DIVISIONS = 5  # of the seeds, at random; each gives two halves to predict from
OF_SETS = ("diversity_gain_", "wvs_")  # predictors that training sets decide


def halves(
    metric: pd.DataFrame, features: Features, values: np.ndarray, benefits: pd.DataFrame, alpha: pd.Series,
    options: Options,
) -> list[pd.DataFrame]:  # fmt: skip
    """Predictors and benefits as each half of one model's runs has them: two tables for every division, one after the other.

    metric: its table, whose conditions are the rows of every half, in their order. values (runs, features): those of
    `features` that are aligned, in noise standard deviations of all runs, so that halves have one unit. benefits, alpha: by
    run (condition, seed). Benefits are means and no gains, since the baseline's would be taken from all alike.
    """
    by_run = benefits.join(alpha.rename("mean_alpha_shift"), how="outer")
    families = features.conditions["family"].to_numpy()
    strengths = features.conditions["strength"].to_numpy(dtype=float)
    of_runs = [*(f"{family}_equivalent" for family in options.controls), "length_along_dropout"]
    ratios = [name for name in metric if name.startswith("efficiency_") and not _is_end(name)]
    of_sets = metric[[name for name in metric if name.startswith(OF_SETS) and not _is_end(name)]]
    known = metric[[*of_runs, *ratios]].notna()
    gains = metric[[name.replace("efficiency", "diversity_gain") for name in ratios]].where(known[ratios].to_numpy())
    tables = []
    for first in divisions(features.seed, features.group, DIVISIONS, options.generator("halves")):
        for chosen in (first, ~first):
            own = pd.DataFrame(np.nan, index=metric.index, columns=of_runs)
            there, group = np.unique(features.group[chosen], return_inverse=True)
            if len(there) > 1 and there[0] == 0:  # the baseline
                gram = unbiased_products(values[chosen], group, features.seed[chosen])
                own.iloc[there[1:] - 1] = _along(gram, families[there[1:]], strengths[there[1:]], options)
            own[ratios] = own[["length_along_dropout"]].to_numpy() / gains.to_numpy()
            seeds = by_run.index.get_level_values("seed").isin(features.seed[chosen])
            means = by_run[seeds].groupby("condition").mean().reindex(metric["condition"]).set_axis(metric.index)
            tables.append(pd.concat([own.where(known), of_sets, means], axis=1))
    return tables


def divisions(seed: np.ndarray, group: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Runs (runs,) of the first half of the seeds, `count` times; of each condition about as many are in it as are not."""
    # In their order, so that no draw depends on what they are called.
    labels = seed[np.sort(np.unique(seed, return_index=True)[1])]
    run = seed == labels[:, None]
    condition = run @ np.eye(group.max() + 1)[group]
    for _ in range(count):
        first, lead = np.zeros(len(labels), dtype=bool), np.zeros(condition.shape[1])
        for label in rng.permutation(len(labels)):
            ahead, coin = condition[label] @ lead, rng.random() < 0.5
            first[label] = ahead < 0 or (ahead == 0 and coin)
            lead += condition[label] if first[label] else -condition[label]
        yield run[first].any(axis=0)


def _along(gram: np.ndarray, families: np.ndarray, strengths: np.ndarray, options: Options) -> np.ndarray:
    """Equivalents by control, and the length along dropout (C, controls + 1), from inner products of shifts (C, C)."""
    columns = []
    for family in options.controls:
        order = np.flatnonzero(families == family)
        order = order[np.argsort(strengths[order])]
        columns.append(nearest_on_path(gram, order, strengths[order])[0])
    length, _ = signed_length(gram, gram[None], family_weights(families, "dropout"))
    return np.column_stack([*columns, length])


def _is_end(name: str) -> bool:
    return name.endswith(("_low", "_high"))
