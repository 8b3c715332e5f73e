"""Do the verdicts on the spectra survive other choices of analysis? A specification curve.

Each choice that the comparison makes (measures, layers, matrices, conditions, geometry, projection) is made otherwise, one
at a time, and the claims about spectra are judged anew (Simonsohn, Simmons & Nelson 2020, doi 10.1038/s41562-020-0912-z).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from diversity_spectra.compare import claims
from diversity_spectra.compare.controls import measured
from diversity_spectra.compare.features import STANDS_FOR, Features, of_kind
from diversity_spectra.compare.noise import fit
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import FAMILIES
from diversity_spectra.spectra.kinds import BESIDE

JUDGES = {"a": claims.like_regularisers, "b": claims.more_like_dropout, "e": claims.unlike_optimisation}
DRAWS = 200  # at most, behind each interval and test: the verdicts are compared, not printed
PARTS = 8  # of the layers, by depth, at most: each is left out in turn
WHITENED = 0.5  # weight of the noise's correlations in the whitened geometry, the rest that of their absence


@dataclass(frozen=True)
class Choice:
    """kind and name: what is chosen otherwise. features (features,), conditions (conditions,): what is kept of them."""

    kind: str
    name: str
    features: np.ndarray
    conditions: np.ndarray
    projected: tuple[str, ...] = ("both", "length", "rate")
    whitened: bool = False


def choices(names: pd.DataFrame, used: np.ndarray, conditions: pd.DataFrame, options: Options) -> Iterator[Choice]:
    """names: layer, depth, matrix and measure of each feature. used (features,): the features of the vectors as they are.
    conditions: the baseline first."""
    everyone = np.ones(len(conditions), dtype=bool)
    every, controls = used, options.controls
    for matrix in STANDS_FOR:
        if matrix != options.matrix:
            yield Choice("matrix", matrix, of_kind(names, options.measures, matrix), everyone)
    beside = {name: of_kind(names, (name,), options.matrix) for name in BESIDE if name not in options.measures}
    measures = {name: used & (names["measure"] == name).to_numpy() for name in dict.fromkeys(names["measure"][used])}
    for name, own in {**(measures if len(measures) > 1 else {}), **beside}.items():
        yield Choice("one measure", name, own, everyone)
    for name, own in measures.items() if len(measures) > 1 else ():
        yield Choice("without a measure", name, used & ~own, everyone)
    for name, own in beside.items():
        yield Choice("with a measure", name, used | own, everyone)
    layers = list(dict.fromkeys(names[used].sort_values("depth", kind="stable")["layer"]))
    for part in np.array_split(np.array(layers, dtype=object), min(PARTS, len(layers))) if len(layers) > 1 else ():
        name = str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}"
        yield Choice("without layers", name, used & (~names["layer"].isin(part)).to_numpy(), everyone)
    family = conditions["family"]
    for control in controls:
        members = conditions["condition"][family == control]
        for name in members if len(members) > 1 else ():
            yield Choice(
                "one strength", name, every, ((family != control) | (conditions["condition"] == name)).to_numpy()
            )
    data = family.map(lambda name: FAMILIES[name].role == "data")
    for name in conditions["condition"][data] if data.sum() > 1 else ():
        yield Choice("without a condition", name, every, (conditions["condition"] != name).to_numpy())
    yield Choice("geometry", "whitened by half", every, everyone, whitened=True)
    for name, paths in (("length alone", ("length",)), ("rate alone", ("rate",)), ("nothing", ())):
        yield Choice("projected out", name, every, everyone, projected=paths)


def robustness_table(
    features: Features, used: np.ndarray, blocks: np.ndarray, evidence: claims.Evidence, options: Options
) -> pd.DataFrame:
    """One row per claim about spectra and choice, and one for the choices as they are (kind empty).

    used: indices of the features of the vectors as they are. blocks (features,): as in `noise.fit`. effect, low, high,
    verdict: of the claim, empty where the choice leaves nothing to judge. agrees: with the verdict of the choices as they
    are.
    """
    few = replace(options, bootstrap=min(options.bootstrap, DRAWS), permutations=min(options.permutations, DRAWS))
    main = {letter: judge(evidence) for letter, judge in JUDGES.items()}
    rows = [_row("", "as it is", letter, judged, judged.verdict) for letter, judged in main.items()]
    known = _known(features, blocks)
    for choice in choices(features.names, np.isin(np.arange(len(blocks)), used), evidence.conditions, options):
        kept, measured_in = choice.conditions[features.group], choice.features & known
        if not measured_in.any():
            continue
        conditions = evidence.conditions[choice.conditions].reset_index(drop=True)
        own = np.searchsorted(np.flatnonzero(choice.conditions), features.group[kept])
        values, seed = features.vectors[np.ix_(kept, measured_in)], features.seed[kept]
        if choice.whitened:
            values = _whitened(values, own, blocks[measured_in])
        *_, shift, controls, moved = measured(values, own, seed, conditions, blocks[measured_in], few)
        other = replace(
            evidence, conditions=conditions, shift=shift, controls=controls, moved=moved, options=few,
            projected=choice.projected,
        )  # fmt: skip
        for letter, judge in JUDGES.items():
            if letter == "e" and not choice.projected:  # which asks what the projection leaves
                continue
            rows.append(_row(choice.kind, choice.name, letter, judge(other), main[letter].verdict))
    return pd.DataFrame(rows)


def _known(features: Features, blocks: np.ndarray) -> np.ndarray:
    """Features (features,) that every run has, and that vary from run to run."""
    known = np.isfinite(features.vectors).all(axis=0)
    known[known] = np.isfinite(fit(features.vectors[:, known], features.group, blocks[known]).sd)
    return known


def _row(kind: str, name: str, letter: str, judged: claims.Judgement, verdict: str) -> dict:
    effect = {"effect": judged.effect, "low": judged.low, "high": judged.high}
    found = {"claim": letter, "kind": kind, "choice": name, **effect, "verdict": judged.verdict}
    return {**found, "agrees": judged.verdict == verdict}


def _whitened(values: np.ndarray, group: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """values (runs, features) in a geometry in which correlated features count less.

    In noise standard deviations, times (WHITENED R + (1 - WHITENED) I)^-1/2 with the noise's correlations R.
    """
    standard = values / fit(values, group, blocks).sd
    mean = np.stack([standard[group == index].mean(axis=0) for index in range(group.max() + 1)])
    correlations = np.nan_to_num(np.corrcoef((standard - mean[group]).T)).reshape(2 * standard.shape[1:])
    values, axes = np.linalg.eigh(WHITENED * correlations + (1 - WHITENED) * np.eye(len(correlations)))
    return standard @ (axes / np.sqrt(np.maximum(values, 1 - WHITENED))) @ axes.T
