"""What recurs from one data set to another, or between networks of the same shape: products of shifts with separate baselines.

The shifts of two families from one data set share its baseline, so their cosine is not 0 where nothing has an effect. From
two data sets they share nothing: the mean of <d_s, r_t> over s != t estimates the product of what is common to all sets
without bias, and so do <d_s, d_t> and <r_s, r_t> its two squared lengths. Their ratio is a cross-fitted cosine, which
exists only where both squared lengths are above 0. Tests: conditions relabelled within each set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations

import numpy as np
import pandas as pd

from diversity_spectra.compare.layer_shifts import MEASURES, Changes, compared
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.relabelling import share_at_least

FEW = 50  # eigenvalues, below which a tail is not fitted to be compared
NORMS = ("log_norm", "log_spectral_norm")
SAME = 1e-9  # of the largest change: less than that is rounding


def alike(sets: dict[str, Changes]) -> list[list[str]]:
    """Networks with the same layers, the head aside, by name: at least two."""
    groups: dict[tuple, list[str]] = {}
    for name, each in sets.items():
        groups.setdefault((len(each.layers), *each.layers.loc[~each.layers["head"], "layer"]), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def standardised(sets: list[Changes], measure: int) -> list[np.ndarray]:
    """Values (runs, layers) of each network without its head, in standard deviations over its runs.

    Of all its runs, whatever their names: so relabelling them leaves it as it is. Layers in which the measure is missing or
    rests on too few eigenvalues are left out.
    """
    kept = np.all([np.isfinite(each.change[..., measure]).all(axis=0) for each in sets], axis=0)
    for each in sets:  # what does not move but for rounding has no scale
        own = each.change[..., measure]
        kept &= own.std(axis=0) > SAME * np.abs(own).max(axis=0)
    kept &= ~sets[0].layers["head"].to_numpy()
    if MEASURES[measure] == "alpha":
        kept &= ~np.any([each.layers["eigenvalues"].to_numpy() < FEW for each in sets], axis=0)
    values = [each.change[:, kept, measure] for each in sets]
    return [each / each.std(axis=0, ddof=1) for each in values]


def crossed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean product of one set's vector with another's: (sets, draws, layers) each, to (draws,)."""
    sets = len(first)
    every = np.einsum("dl,dl->d", first.sum(axis=0), second.sum(axis=0))
    return (every - np.einsum("sdl,sdl->d", first, second)) / (sets * (sets - 1))


def across_table(sets: list[Changes], name: str, options: Options) -> pd.DataFrame:
    """Cross-fitted cosines of pairs of families over several networks, and trends with the strength of a family."""
    families = [family for family in sets[0].families if all(family in each.families for each in sets)]
    rows = []
    for own in compared(families):
        if len(own) == 2 and len(sets) > 1:
            rows += _pair(sets, own, name, options)
        elif len(own) == 1:
            for index, measure in enumerate(MEASURES):
                rows += _trends(sets, own[0], index, measure, name, options)
    table = pd.DataFrame(rows)
    if len(table):
        # One family of tests for each pair or family, over the measures.
        table["p_holm"] = table.groupby(["statistic", "families"])["p_relabelled"].transform(holm)
    return table


def _pair(sets: list[Changes], own: tuple[str, ...], name: str, options: Options) -> Iterator[dict[str, object]]:
    """The cross-fitted cosine of two families, for each measure."""
    chosen = [each.of(*own) for each in sets]
    generator = options.generator(f"across/{name}/{'/'.join(own)}")
    drawn = []
    for each in chosen:
        weights, _ = each.relabelled(options.permutations, generator)
        pick = generator.integers(len(weights), size=options.permutations)
        pick[0] = 0
        drawn.append(weights[pick][:, [each.families.index(family) for family in own]])
    floor = float(np.prod([each.floor() for each in chosen]))
    for index, measure in enumerate(MEASURES):
        values = standardised(chosen, index)
        if not values[0].size:
            continue
        vectors = [
            np.einsum("nfr,rl->fnl", weights, numbers, optimize=True)
            for weights, numbers in zip(drawn, values, strict=True)
        ]
        first, second = (np.stack([each[place] for each in vectors]) for place in (0, 1))
        product = crossed(first, second)
        lengths = [crossed(one, one)[0] for one in (first, second)]
        known = min(lengths) > 0
        notes = [] if known else ["no common shift: the squared length of one of the two is not above 0"]
        yield {
            "measure": measure,
            "head": False,
            "statistic": "cosine_across",
            "families": " ".join(own),
            "layers": first.shape[2],
            "value": product[0] / np.sqrt(lengths[0] * lengths[1]) if known else np.nan,
            "p_relabelled": share_at_least(product),
            "p_floor": floor,
            "relabellings": len(product),
            "all_relabellings": False,
            "signs": _signs(first, second),
            "note": "; ".join([*notes, *_arithmetic(measure, own)]),
        }


def _arithmetic(measure: str, families: Iterable[str]) -> list[str]:
    return ["weight decay lowers norms by its own arithmetic"] * (measure in NORMS and "weight_decay" in families)


def _signs(first: np.ndarray, second: np.ndarray) -> str:
    """Signs of the product with each set left out in turn, as description; empty with fewer than three sets."""
    if len(first) < 3:
        return ""
    rests = [np.delete(np.arange(len(first)), place) for place in range(len(first))]
    return "".join("+" if crossed(first[rest][:, :1], second[rest][:, :1])[0] > 0 else "-" for rest in rests)


def _trends(
    sets: list[Changes], family: str, index: int, measure: str, name: str, options: Options
) -> list[dict[str, object]]:
    """Zero-sum trends over the strengths of each kind with at least three: the baseline cancels, so nothing is shared.

    A trend is the sum of w_c y_c with w the ranks of the strengths less their mean, of length 1. Its product from network to
    network, or with one network its squared length, is tested against the other orders of the strengths.
    """
    rows = []
    chosen = [each.of(family) for each in sets]
    values = standardised(chosen, index)
    if not values[0].size:
        return rows
    for kind in dict.fromkeys(chosen[0].conditions["kind"][1:]):
        swept = [_swept(each.conditions, kind) for each in chosen]
        if any(len(own) < 3 or own["strength"].duplicated().any() for own in swept):
            continue
        vectors, orders = [], 1
        generator = options.generator(f"trend/{name}/{family}/{kind}")
        for each, own, numbers in zip(chosen, swept, values, strict=True):
            means = np.stack([numbers[each.place == place].mean(axis=0) for place in own.index])
            ranks = np.arange(len(own)) - (len(own) - 1) / 2
            every = np.array(list(permutations(ranks))) if len(own) <= 7 else generator.permuted(
                np.tile(ranks, (options.permutations, 1)), axis=1
            )  # fmt: skip
            every[0] = ranks
            # All orders where there is one network; else networks are reordered apart from each other, at random.
            pick = (
                np.arange(len(every)) if len(sets) == 1 else generator.integers(len(every), size=options.permutations)
            )
            pick[0] = 0
            orders *= len(every)
            vectors.append((every[pick] / np.linalg.norm(ranks)) @ means)
        trend = np.stack(vectors)
        product = crossed(trend, trend) if len(sets) > 1 else np.einsum("dl,dl->d", trend[0], trend[0])
        rows.append(
            {
                "measure": measure,
                "head": False,
                "statistic": "trend",
                "families": " ".join(filter(None, [family, str(kind)])),
                "layers": trend.shape[2],
                "value": product[0] / trend.shape[2],
                "p_relabelled": share_at_least(product),
                "p_floor": 2 / orders,
                "relabellings": len(product),
                "all_relabellings": len(sets) == 1 and len(product) == orders,
                "signs": _signs(trend, trend),
                "note": "; ".join(_arithmetic(measure, [family])),
            }
        )
    return rows


def _swept(conditions: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The conditions of a kind, from weak to strong."""
    return conditions[conditions["kind"] == kind].dropna(subset="strength").sort_values("strength")


def holm(p: pd.Series) -> pd.Series:
    """Adjusted p values (Holm 1979); NaN where a p value is."""
    known = p.dropna().sort_values()
    steps = known * np.arange(len(known), 0, -1)
    return steps.cummax().clip(upper=1).reindex(p.index)
