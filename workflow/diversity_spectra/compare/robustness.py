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
from diversity_spectra.compare.noise import fit
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import FAMILIES

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


def choices(names: pd.DataFrame, conditions: pd.DataFrame, controls: tuple[str, ...]) -> Iterator[Choice]:
    """names: layer, depth, matrix and measure of each feature. conditions: the baseline first."""
    every, everyone = np.ones(len(names), dtype=bool), np.ones(len(conditions), dtype=bool)
    for kind in ("matrix", "measure"):
        values = list(dict.fromkeys(names[kind]))
        if len(values) == 1:
            continue
        yield from (Choice(f"one {kind}", name, (names[kind] == name).to_numpy(), everyone) for name in values)
        yield from (
            Choice(f"without a {kind}", name, (names[kind] != name).to_numpy(), everyone)
            for name in (values if kind == "measure" else ())
        )
    layers = list(dict.fromkeys(names.sort_values("depth", kind="stable")["layer"]))
    for part in np.array_split(np.array(layers, dtype=object), min(PARTS, len(layers))) if len(layers) > 1 else ():
        name = str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}"
        yield Choice("without layers", name, (~names["layer"].isin(part)).to_numpy(), everyone)
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
    vectors: np.ndarray, group: np.ndarray, seed: np.ndarray, names: pd.DataFrame, blocks: np.ndarray,
    evidence: claims.Evidence, options: Options,
) -> pd.DataFrame:  # fmt: skip
    """One row per claim about spectra and choice, and one for the choices as they are (kind empty).

    vectors (runs, features), group and seed (runs,), names and blocks of the features: of `controls.measured`. effect, low,
    high, verdict: of the claim, empty where the choice leaves nothing to judge. agrees: with the verdict of the choices
    as they are.
    """
    few = replace(options, bootstrap=min(options.bootstrap, DRAWS), permutations=min(options.permutations, DRAWS))
    main = {letter: judge(evidence) for letter, judge in JUDGES.items()}
    rows = [_row("", "as it is", letter, judged, judged.verdict) for letter, judged in main.items()]
    for choice in choices(names, evidence.conditions, options.controls):
        kept = choice.conditions[group]
        conditions = evidence.conditions[choice.conditions].reset_index(drop=True)
        own = np.searchsorted(np.flatnonzero(choice.conditions), group[kept])
        values = vectors[np.ix_(kept, choice.features)]
        if choice.whitened:
            values = _whitened(values, own, blocks[choice.features])
        *_, shift, controls, moved = measured(values, own, seed[kept], conditions, blocks[choice.features], few)
        other = replace(
            evidence, conditions=conditions, shift=shift, controls=controls, moved=moved, options=few,
            projected=choice.projected,
        )  # fmt: skip
        for letter, judge in JUDGES.items():
            # Of (e) nothing is left if nothing is projected out; (b) projects nothing out.
            if (choice.kind == "projected out") and (letter == "b" or (letter == "e" and not choice.projected)):
                continue
            rows.append(_row(choice.kind, choice.name, letter, judge(other), main[letter].verdict))
    return pd.DataFrame(rows)


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
