"""The study's own analysis of a run's spectra, beside what it gives where nothing has any effect.

As in the code of Ba, Mancenido and Pan (arXiv 2410.14602): for every layer the change of a measure of W in training, less
that of the baseline; mean over the conditions of a family; then the mean over layers, Pearson's correlation of two
families over layers, and tests with layers as replicates. Layers are no replicates, and all families share one baseline.
So each number stands beside its null: the same runs with the names of conditions dealt out anew (`relabelling`); the run's
own baseline runs dealt out as if they were families; and for the cosine a closed form: see `shared_baseline`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.features import without_failed_fits
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.relabelling import orders, share_at_least
from diversity_spectra.conditions import of_role

STUDIED = ("alpha", "entropy", "log_norm", "log_spectral_norm")
MEASURES = (*STUDIED, "stable_rank")
BEFORE = "W_before"  # matrix of the rows on a network before its training
FAMILIES = of_role("data", "control")
DEALS = 200  # deals of the baseline's own runs
SHIFTS = ["layer", "depth", "head", "family", "measure", "shift", "conditions", "runs"]


@dataclass(frozen=True)
class Changes:
    """What training did to every measure of W in the runs of one network.

    change (runs, layers, measures), on the measure's own scale, as in the study. place (runs,): index in `conditions`;
    seed (runs,). conditions: condition, family, kind, strength; the baseline first. layers: layer, depth, eigenvalues,
    head. The head is the last layer of the network: none of these where it is too small to be analysed.
    """

    change: np.ndarray
    place: np.ndarray
    seed: np.ndarray
    conditions: pd.DataFrame
    layers: pd.DataFrame

    @property
    def families(self) -> list[str]:
        return [name for name in FAMILIES if name in set(self.conditions["family"])]

    def of(self, *families: str) -> Changes:
        """With the runs of the baseline and of these families only."""
        kept = self.conditions["family"].isin(["baseline", *families]).to_numpy()
        runs = kept[self.place]
        number = np.cumsum(kept) - 1
        conditions = self.conditions[kept].reset_index(drop=True)
        return replace(
            self, change=self.change[runs], place=number[self.place[runs]], seed=self.seed[runs], conditions=conditions
        )

    def weights(self) -> np.ndarray:
        """Of the runs in the shift of each family (families, runs): mean of its conditions' means, less the baseline's."""
        counts = np.bincount(self.place, minlength=len(self.conditions))
        own = self.conditions["family"].to_numpy()
        each = 1 / counts[self.place]
        base = each * (own[self.place] == "baseline")
        rows = [each * (own[self.place] == name) / np.sum(own == name) - base for name in self.families]
        return np.array(rows).reshape(len(rows), len(self.place))

    def relabelled(self, draws: int, generator: np.random.Generator) -> tuple[np.ndarray, bool]:
        """Weights (draws, families, runs) of relabelled runs, the runs as they are first; whether these are all."""
        weights = self.weights()
        alike = np.unique(np.round(weights, 12).T, axis=0, return_inverse=True)[1].reshape(-1)
        order, complete = orders(alike, self.seed, draws, generator)
        found = np.empty((len(order), *weights.shape))
        np.put_along_axis(found, order[:, None, :].repeat(len(weights), 1), weights[None].repeat(len(order), 0), axis=2)
        return found, complete

    def floor(self) -> float:
        """One over the choices of baseline runs within seeds: p of a shift common to all conditions is hardly smaller."""
        own = (self.conditions["family"].to_numpy() == "baseline")[self.place]
        choices = 1.0
        for seed in np.unique(self.seed):
            here = own[self.seed == seed]
            choices *= stats.binom(len(here), 0.5).pmf(here.sum()) * 2.0 ** len(here)
        return 1 / choices


def changes(spectra: pd.DataFrame, conditions: pd.DataFrame) -> Changes | None:
    """Of the tables of one network; None without a baseline and a family to compare with it.

    Where there are rows on the network before training (`W_before`), they are subtracted; else all runs are taken to start
    from the same weights, which then cancel. Layers in which no measure of the study differs between runs were not trained
    and are left out, as in the study; so are runs without any measure, which diverged.
    """
    measures = [name for name in MEASURES if name in spectra]
    rows = without_failed_fits(spectra)
    known = (rows["matrix"] == "W") & rows[measures].notna().any(axis=1)
    rows = rows.merge(rows.loc[known, ["condition", "seed"]].drop_duplicates())
    wanted = conditions[conditions["family"].isin(["baseline", *FAMILIES])]
    wanted = wanted[wanted["condition"].isin(rows["condition"])]
    rank = wanted["family"].map({name: place for place, name in enumerate(["baseline", *FAMILIES])})
    wanted = wanted.assign(_rank=rank).sort_values(["_rank", "kind", "strength"], kind="stable", ignore_index=True)
    if wanted["family"].nunique() < 2 or wanted["family"].iloc[0] != "baseline":
        return None
    rows = rows[rows["condition"].isin(wanted["condition"])]
    after, before = (
        rows[rows["matrix"] == matrix].groupby(["condition", "seed", "layer"])[measures].mean().astype(float)
        for matrix in ("W", BEFORE)
    )
    table = after - before.reindex(after.index) if len(before) else after
    of_w = rows[rows["matrix"] == "W"]
    sizes = of_w["num_evals"] if "num_evals" in of_w else pd.Series(np.nan, of_w.index)
    layers = of_w.assign(eigenvalues=sizes).groupby(["depth", "layer"], as_index=False)["eigenvalues"].min()
    layers["head"] = layers["depth"] == layers["depth"].max()
    runs = after.index.droplevel("layer").unique()
    place = wanted["condition"].to_list()
    runs = sorted(runs, key=lambda run: (place.index(run[0]), run[1]))
    full = pd.MultiIndex.from_tuples([(*run, layer) for run in runs for layer in layers["layer"]])
    values = table.reindex(full)[measures].to_numpy().reshape(len(runs), len(layers), len(measures))
    missing = np.full((*values.shape[:2], 1), np.nan)
    values = np.concatenate(
        [values[..., [measures.index(name)]] if name in measures else missing for name in MEASURES], axis=2
    )
    trained = np.nan_to_num(np.ptp(values[..., : len(STUDIED)], axis=0)).max(axis=1) > 0
    columns = [name for name in ("condition", "family", "kind", "strength") if name in wanted]
    return Changes(
        values[:, trained],
        np.array([place.index(condition) for condition, _ in runs]),
        np.array([seed for _, seed in runs]),
        wanted[columns],
        layers[trained].reset_index(drop=True),
    )


def shared_baseline(sets: list[Changes], first: str, second: str) -> float:
    """The cosine that two families of runs without any effect have, since both are taken less the same baseline runs.

    sets: networks whose shifts are averaged. Their runs are apart from each other, so covariances and variances add up; the
    noise of a run is taken to be as large in all of them.

    With variance v_0 of the baseline's mean and v_f of a family's, each layer's shifts have covariance v_0 and variances
    v_0 + v_f, so the cosine tends to v_0 / sqrt((v_0 + v_f)(v_0 + v_g)) as layers grow in number; with one run a condition
    and k and m conditions that is 1 / sqrt((1 + 1/k)(1 + 1/m)). Where runs share seeds, what a seed adds cancels.
    """
    weights = [dict(zip(each.families, each.weights(), strict=True)) for each in sets]
    return float(cosine(*(np.concatenate([own[name] for own in weights]) for name in (first, second))))


# ---------------------------------------------------------------- statistics over layers


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Correlation over the last axis."""
    return cosine(x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True))


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of vectors along the last axis; NaN where one is 0."""
    size = np.sqrt(np.einsum("...l,...l->...", x, x) * np.einsum("...l,...l->...", y, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, np.einsum("...l,...l->...", x, y) / size, np.nan)


def pearson_p(r: np.ndarray, layers: int) -> np.ndarray:
    """Two-sided, with layers as replicates."""
    if layers < 3:
        return np.full(np.shape(r), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * stats.t.sf(np.abs(r) * np.sqrt((layers - 2) / (1 - r**2)), layers - 2)


def anova(shifts: np.ndarray) -> np.ndarray:
    """F of families (..., families, layers) with layers as replicates."""
    families, layers = shifts.shape[-2:]
    if families < 2 or layers < 2:
        return np.full(shifts.shape[:-2], np.nan)
    means = shifts.mean(-1)
    between = layers * means.var(-1) * families / (families - 1)
    within = shifts.var(-1, ddof=1).mean(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return between / within


def anova_p(f: np.ndarray, families: int, layers: int) -> np.ndarray:
    return stats.f.sf(f, families - 1, families * (layers - 1))


@dataclass(frozen=True)
class Statistic:
    """A number of the study's analysis (draws,), the first as observed, and its p with layers as replicates (draws,).

    extreme: the same on the scale on which more is more unlike nothing.
    """

    name: str
    number: np.ndarray
    p: np.ndarray
    extreme: np.ndarray


def statistics(shifts: np.ndarray) -> Iterator[Statistic]:
    """Of the shifts (draws, families, layers): with one family its mean, with two what compares them, with more ANOVA."""
    draws, families, layers = shifts.shape
    nothing = np.full(draws, np.nan)
    if families == 1:
        mean = shifts[:, 0].mean(-1)
        yield Statistic("mean", mean, nothing, np.abs(mean))
    if families == 2:
        first, second = shifts[:, 0], shifts[:, 1]
        aligned, correlated = cosine(first, second), pearson(first, second)
        yield Statistic("cosine", aligned, nothing, aligned)
        yield Statistic("pearson", correlated, pearson_p(correlated, layers), correlated)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (first.mean(-1) - second.mean(-1)) / np.sqrt((first.var(-1, ddof=1) + second.var(-1, ddof=1)) / layers)
        yield Statistic("t", t, 2 * stats.t.sf(np.abs(t), 2 * layers - 2), np.abs(t))
    if families > 2:
        f = anova(shifts)
        yield Statistic("anova_f", f, anova_p(f, families, layers), f)


# ---------------------------------------------------------------- tables


def compared(families: list[str]) -> list[tuple[str, ...]]:
    """Every family, every family of data with every control, the controls with each other, and all together."""
    data, controls = (of_role(role) for role in ("data", "control"))
    pairs = [pair for pair in combinations(families, 2) if set(pair) & set(controls)]
    pairs = [tuple(sorted(pair, key=lambda name: name not in data)) for pair in pairs]
    return [*((name,) for name in families), *pairs, *([tuple(families)] if len(families) > 2 else [])]


def shifts_table(sets: list[Changes]) -> pd.DataFrame:
    """Shift of each family, layer and measure: mean over the networks of `sets`, whose layers are the same."""
    families = [name for name in sets[0].families if all(name in each.families for each in sets)]
    rows = []
    for name in families:
        own = [each.of(name) for each in sets]
        shift = np.mean([np.tensordot(each.weights()[0], each.change, 1) for each in own], axis=0)
        conditions = sum(len(each.conditions) - 1 for each in own)
        runs = sum(int((each.place > 0).sum()) for each in own)
        for place, (layer, depth, head) in enumerate(
            sets[0].layers[["layer", "depth", "head"]].itertuples(index=False)
        ):
            rows += [
                (layer, depth, head, name, measure, shift[place, index], conditions, runs)
                for index, measure in enumerate(MEASURES)
            ]
    return pd.DataFrame(rows, columns=SHIFTS)


def tests_table(sets: list[Changes], name: str, options: Options) -> pd.DataFrame:
    """Every number of the study's analysis beside its nulls, with and without the head.

    sets: networks whose shifts are averaged layer by layer; one alone for the analysis of one network. name: of the
    network, which decides on the random relabellings.
    """
    families = [family for family in sets[0].families if all(family in each.families for each in sets)]
    rows = []
    for own in compared(families):
        generator = options.generator(f"layer_shifts/{name}/{'/'.join(own)}")
        chosen = [each.of(*own) for each in sets]
        drawn = [each.relabelled(options.permutations, generator) for each in chosen]
        # Networks are relabelled apart from each other: all combinations of all relabellings would be too many.
        complete = len(sets) == 1 and drawn[0][1]
        if len(sets) > 1:
            picks = [generator.integers(len(weights), size=options.permutations) for weights, _ in drawn]
            for pick in picks:
                pick[0] = 0
            weights = [each[pick] for (each, _), pick in zip(drawn, picks, strict=True)]
        else:
            weights = [drawn[0][0]]
        order = [chosen[0].families.index(family) for family in own]
        shifts = np.mean(
            [
                np.einsum("nfr,rlm->mnfl", each[:, order], one.change, optimize=True)
                for each, one in zip(weights, chosen, strict=True)
            ],
            axis=0,
        )
        dealt = _dealt_out(chosen, len(own), options.generator(f"dealt/{name}/{len(own)}"))
        closed = shared_baseline(chosen, *own) if len(own) == 2 else np.nan
        floor = float(np.prod([each.floor() for each in chosen]))
        for index, measure in enumerate(MEASURES):
            for head in (True, False):
                kept = _layers(sets, index, head)
                if kept.sum() < 2:  # the cosine of two numbers is their sign
                    continue
                alike = {} if dealt is None else {one.name: one for one in statistics(dealt[index][..., kept])}
                for one in statistics(shifts[index][..., kept]):
                    row = {"measure": measure, "head": head, "statistic": one.name, "families": " ".join(own)}
                    row |= {"layers": int(kept.sum()), "value": one.number[0], "p_layers": one.p[0]}
                    row |= _null(one, options) | {
                        "null_closed": closed if one.name == "cosine" else np.nan,
                        "p_floor": floor,
                        "relabellings": len(one.number),
                        "all_relabellings": complete,
                    }
                    row |= _dealt(alike.get(one.name), options, 0 if dealt is None else dealt.shape[1])
                    rows.append(row)
    return pd.DataFrame(rows)


def _layers(sets: list[Changes], measure: int, head: bool) -> np.ndarray:
    """Layers that have the measure in every run."""
    kept = np.all([np.isfinite(each.change[..., measure]).all(axis=0) for each in sets], axis=0)
    return kept if head else kept & ~sets[0].layers["head"].to_numpy()


def _null(one: Statistic, options: Options) -> dict[str, float]:
    """What relabelled runs give: the range of 1 - level, the median, and how often the study's test says p < level."""
    known = one.number[np.isfinite(one.number)]
    ends = np.quantile(known, [options.level / 2, 0.5, 1 - options.level / 2]) if len(known) > 1 else np.full(3, np.nan)
    return {
        "null_low": ends[0],
        "null_median": ends[1],
        "null_high": ends[2],
        "null_significant": _significant(one.p, options),
        "p_relabelled": share_at_least(one.extreme) if len(known) > 1 else np.nan,
    }


def _significant(p: np.ndarray, options: Options) -> float:
    known = p[np.isfinite(p)]
    return float(np.mean(known < options.level)) if len(known) else np.nan


def _dealt(one: Statistic | None, options: Options, deals: int) -> dict[str, float]:
    """What the baseline's own runs give."""
    values = np.array([np.nan]) if one is None else one.number[np.isfinite(one.number)]
    return {
        "dealt_median": float(np.median(values)) if len(values) else np.nan,
        "dealt_significant": np.nan if one is None else _significant(one.p, options),
        "deals": deals,
    }


def _dealt_out(sets: list[Changes], families: int, generator: np.random.Generator) -> np.ndarray | None:
    """Shifts (measures, deals, families, layers) of the baseline's own runs, dealt out as a baseline and so many families.

    All were trained in the same way, so nothing can have an effect. None where there are too few of them, or several
    networks.
    """
    own = sets[0].change[sets[0].place == 0]
    size = len(own) // (families + 1)
    if len(sets) > 1 or not size:
        return None
    deals = np.argsort(generator.random((DEALS, len(own))), axis=1)[:, : size * (families + 1)]
    means = own[deals.reshape(DEALS, families + 1, size)].mean(axis=2)  # (deals, groups, layers, measures)
    return np.moveaxis(means[:, 1:] - means[:, :1], -1, 0)
