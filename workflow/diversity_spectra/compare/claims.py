"""The claims of the study, each judged from the data of the run at hand by one function.

A judgement holds numbers and codes; its verdict follows from them by the rule in the docstring of its function. The
sentences are the report's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from diversity_spectra.compare.beyond import (
    Geometry,
    Interval,
    clear,
    difference_of_cosines,
    mean_cosine,
    share_beyond,
)
from diversity_spectra.compare.controls import groups_of
from diversity_spectra.compare.evidence import (
    CONTRADICTED,
    DATA_FAMILIES,
    INCONCLUSIVE,
    MIXED,
    NOT_RUN,
    SUPPORTED,
    Evidence,
    Judgement,
    Missing,
)
from diversity_spectra.compare.metric import log_vendi, score_quantile
from diversity_spectra.compare.options import Options


def like_regularisers(evidence: Evidence) -> Judgement:
    """(a) Judged beyond optimisation, for each family of data: supported if, for a control, the whole interval of the
    mean partial cosine is at least `similarity`, contradicted if for both controls it ends below.

    Controls and families count that are detected and, beyond optimisation, still longer than their noise; a control whose
    strengths oppose each other has no direction and does not count. The plain cosines are told beside.
    """
    options, groups = evidence.options, evidence.moving()
    found = [family for family in options.controls if evidence.usable(family)]
    plain = {}
    if groups and found:
        plain = {family: _mean_cosine(evidence, evidence.plain, groups, family, options.level) for family in found}
    left, apart, missing = _left(evidence, found)
    if not left or not apart:
        return _undecided(*missing, plain=plain)
    level = _level(options) / len(left) / len(apart)
    cosines = {
        name: {family: _mean_cosine(evidence, evidence.beyond, {name: own}, family, level) for family in apart}
        for name, own in left.items()
    }
    decisive = set(apart) == set(options.controls)
    verdicts = {
        name: SUPPORTED
        if any(low >= options.similarity for _, low, _ in own.values())
        else CONTRADICTED
        if decisive and all(high < options.similarity for _, _, high in own.values())
        else INCONCLUSIVE
        for name, own in cosines.items()
    }
    each = options.level / len(apart)
    overall = {family: _mean_cosine(evidence, evidence.beyond, left, family, each) for family in apart}
    best = max(overall, key=lambda name: np.nan_to_num(overall[name][0], nan=-np.inf))
    details = {"families": verdicts, "cosines": cosines, "overall": overall, "plain": plain, "missing": missing}
    details["similarity"] = options.similarity
    runs = evidence.runs(_union(left), *map(evidence.direction, apart))
    return Judgement(*overall[best], runs, _together(verdicts, groups), details=details)


def more_like_dropout(evidence: Evidence) -> Judgement:
    """(b) Judged beyond optimisation, for each family of data: supported if the interval of the difference lies above
    `relevant`, contradicted if below it.

    Of both controls and of the family something must be left beyond optimisation, and the interval of the cosine of what
    is left of the two controls end below `distinct`. The plain difference is told beside.
    """
    pair, options, groups = ["dropout", "weight_decay"], evidence.options, evidence.moving()
    found = [family for family in pair if evidence.usable(family)]
    plain = {}
    if groups and found == pair:
        plain = {"difference": _difference_of_cosines(evidence, evidence.plain, groups, pair, options.level)}
    left, apart, missing = _left(evidence, found, pair)
    if not left or apart != pair:
        return _undecided(*missing, plain=plain)
    controls = evidence.beyond.combine(np.array([evidence.direction(family) for family in pair]))
    between = mean_cosine(controls, np.array([True, False]), np.array([0.0, 1.0]), options.level)
    if not between[2] < options.distinct:
        alike = {"code": Missing.ALIKE, "cosine": between, "distinct": options.distinct}
        return _undecided(*missing, alike, plain=plain)
    level = _level(options) / len(left)
    differences = {
        name: _difference_of_cosines(evidence, evidence.beyond, {name: own}, pair, level) for name, own in left.items()
    }
    verdicts = {
        name: SUPPORTED if low > options.relevant else CONTRADICTED if high < options.relevant else INCONCLUSIVE
        for name, (_, low, high) in differences.items()
    }
    details = {"families": verdicts, "differences": differences, "cosine_of_controls": between, "plain": plain}
    details |= {"relevant": options.relevant, "missing": missing}
    effect = _difference_of_cosines(evidence, evidence.beyond, left, pair, options.level)
    runs = evidence.runs(_union(left), *map(evidence.direction, pair))
    return Judgement(*effect, runs, _together(verdicts, groups), details=details)


def unlike_optimisation(evidence: Evidence) -> Judgement:
    """(e) For each family of data, supported if the interval of the share of its squared shifts that lies beyond
    optimisation is above `own`, contradicted if below it.

    Longer training or a higher rate must be detected, and of the data the families that count.
    """
    missing = _missing(evidence, [], [])
    if not missing and evidence.beyond is None:
        missing = [{"code": evidence.why_not_beyond}]
    if missing:
        return _undecided(*missing)
    options, groups = evidence.options, evidence.moving()
    level = _level(options) / len(groups)
    shares = {name: share_beyond(evidence.plain, evidence.beyond, own, level) for name, own in groups.items()}
    verdicts = {
        name: SUPPORTED if low > options.own else CONTRADICTED if high < options.own else INCONCLUSIVE
        for name, (_, low, high) in shares.items()
    }
    effect = share_beyond(evidence.plain, evidence.beyond, _union(groups), options.level)
    details = {"families": verdicts, "shares": shares, "own": options.own}
    runs = evidence.runs(_union(groups))
    return Judgement(*effect, runs, _together(verdicts, groups), details=details)


def synthetic_adds_most(evidence: Evidence) -> Judgement:
    """(c) Two parts, both synthetic minus augmentation: diversity in every kernel, and out-of-distribution accuracy.

    Supported if both intervals lie above 0 (the diversity one in every kernel), contradicted if either lies below 0;
    each has half of the error level.
    """
    synthetic, augmented = (list(evidence.members(family)["condition"]) for family in ("synthetic", "augmentation"))
    if not synthetic or not augmented:
        return _undecided({"code": Missing.NO_SYNTHETIC_OR_NO_AUGMENTATION})
    level = _level(evidence.options) / 2
    weights = _difference(synthetic, augmented)
    effect, low, high = evidence.benefits.contrast(weights, "ood_accuracy", level)
    if not np.isfinite(effect):
        return _undecided({"code": Missing.NO_OOD_ACCURACY})
    # Sets are compared with each other: the baseline's score, and its error, would cancel.
    by_set = evidence.conditions.set_index("condition")["training_set"]
    factors = pd.Series(weights).groupby(by_set, sort=False).sum()
    parts = {}
    for kernel, logs in log_vendi(evidence.diversity, factors.index).items():
        difference, spread = factors @ logs[:, 0], np.sqrt(factors**2 @ logs[:, 1] ** 2)
        half = score_quantile(level) * spread
        parts[kernel] = (difference, difference - half, difference + half)
    signs = {_by_sign(part_low, part_high) for _, part_low, part_high in parts.values()}
    diverse = signs.pop() if len(signs) == 1 else INCONCLUSIVE
    helps = _by_sign(low, high)
    verdict = SUPPORTED if diverse == helps == SUPPORTED else INCONCLUSIVE
    verdict = CONTRADICTED if CONTRADICTED in (diverse, helps) else verdict
    details = {"ood_accuracy": helps, "diversity": diverse, "ln_vendi": parts}
    runs = evidence.benefits.runs(weights, "ood_accuracy")
    return Judgement(effect, low, high, runs, verdict, details=details)


def too_much_hurts(evidence: Evidence) -> Judgement:
    """(d) Supported if the largest amount is below some smaller one, interval and all; contradicted if above every one.

    Smaller amounts include none (the baseline). Added and replaced synthetic data are separate curves, each with at
    least two amounts. Intervals hold for all comparisons at once (Bonferroni); the lowest difference is the effect.
    """
    options, benefits = evidence.options, evidence.benefits
    comparisons = []
    for _, curve in evidence.members("synthetic").groupby("kind"):
        if curve["strength"].nunique() < 2:
            continue
        curve = curve.sort_values("strength")
        largest, smaller = curve["condition"].iloc[-1], curve["condition"].iloc[:-1]
        comparisons += [(largest, other) for other in [*smaller, benefits.conditions[0]]]
    if not comparisons:
        return _undecided({"code": Missing.NO_CURVE})
    level = _level(options) / len(comparisons)
    results = [benefits.contrast({a: 1.0, b: -1.0}, "id_accuracy", level) for a, b in comparisons]
    if not np.isfinite([effect for effect, _, _ in results]).all():
        return _undecided({"code": Missing.NO_ACCURACY})
    if not np.isfinite(results).all():
        return _undecided({"code": Missing.NO_NOISE})
    worst = int(np.argmin([result[0] for result in results]))
    decided = int(np.argmin([result[2] for result in results]))
    verdict = INCONCLUSIVE
    if results[decided][2] < 0:
        verdict, worst = SUPPORTED, decided
    elif all(result[1] > 0 for result in results):
        verdict = CONTRADICTED
    largest, other = comparisons[worst]
    outside = benefits.contrast({largest: 1.0, other: -1.0}, "ood_accuracy", options.level)
    details = {"condition": largest, "than": other, "ood_accuracy": outside}
    runs = benefits.runs({name for pair in comparisons for name in pair}, "id_accuracy")
    return Judgement(*results[worst], runs, verdict, details=details)


@dataclass(frozen=True)
class Claim:
    """A claim of the study: its letter and words, what `effect` is, and how it is judged."""

    letter: str
    statement: str
    estimand: str
    judge: Callable[[Evidence], Judgement]


CLAIMS = (
    Claim(
        "a",
        "Training-data diversity changes the spectra the way regularisers do.",
        "larger of the mean partial cosines of the shifts of augmentation and synthetic conditions with the directions of "
        "dropout and of weight decay, longer training and a higher rate projected out, weighted by the lengths of the shifts",
        like_regularisers,
    ),
    Claim(
        "b",
        "Diversity acts more like dropout than like weight decay.",
        "mean partial cosine of the shifts of augmentation and synthetic conditions with the dropout direction minus that "
        "with the weight-decay direction, longer training and a higher rate projected out, weighted by the lengths of the shifts",
        more_like_dropout,
    ),
    Claim(
        "c",
        "Synthetic data add more diversity than classical augmentation and help most out of distribution.",
        "mean out-of-distribution accuracy of the synthetic conditions minus that of the augmentation conditions; "
        "beside it the same difference in ln(Vendi), order 1, per kernel",
        synthetic_adds_most,
    ),
    Claim(
        "d",
        "Too much synthetic data hurts.",
        "test accuracy at the largest synthetic amount minus that at the smaller amount it falls behind most; images of "
        "one generator, trained or sampled once",
        too_much_hurts,
    ),
    Claim(
        "e",
        "Training-data diversity moves the spectra in a way that optimisation does not.",
        "share of the squared shifts of augmentation and synthetic conditions at a right angle to the directions of longer "
        "training and of a higher rate",
        unlike_optimisation,
    ),
)


def claims_table(evidence: Evidence) -> pd.DataFrame:
    """One row per claim; `details` as canonical JSON text, which CSV and Parquet both hold."""
    rows = []
    for claim in CLAIMS:
        words = {"claim": claim.letter, "statement": claim.statement, "estimand": claim.estimand}
        judged = asdict(claim.judge(evidence))
        details = json.dumps(_plain(judged["details"]), sort_keys=True, separators=(",", ":"), allow_nan=False)
        rows.append({**words, **judged, "details": details})
    return pd.DataFrame(rows)


def _level(options: Options) -> float:
    """Error level of one verdict, such that all verdicts about a network together have `level` (Bonferroni)."""
    return options.level / len(CLAIMS)


def _together(verdicts: dict[str, str], groups: dict[str, np.ndarray]) -> str:
    """Of verdicts by family of data: the one that all have, or that they contradict each other."""
    found = {verdicts.get(name, INCONCLUSIVE) for name in groups}
    if {SUPPORTED, CONTRADICTED} <= found:
        return MIXED
    return found.pop() if len(found) == 1 else INCONCLUSIVE


def _union(groups: dict[str, np.ndarray]) -> np.ndarray:
    return np.any(list(groups.values()), axis=0)


def _each(members: np.ndarray) -> np.ndarray:
    """Weights that pick the members, one by one."""
    return np.eye(len(members))[members]


def _mean_cosine(
    evidence: Evidence, geometry: Geometry, groups: dict[str, np.ndarray], family: str, level: float
) -> Interval:
    return mean_cosine(geometry, _union(groups), evidence.direction(family), level)


def _difference_of_cosines(
    evidence: Evidence, geometry: Geometry, groups: dict[str, np.ndarray], pair: list[str], level: float
) -> Interval:
    one, other = (evidence.direction(family) for family in pair)
    return difference_of_cosines(geometry, _union(groups), one, other, level)


def _left(
    evidence: Evidence, found: list[str], wanted: list[str] | None = None
) -> tuple[dict[str, np.ndarray], list[str], list[dict]]:
    """Families of data and, of the controls `found`, those of which something is left beyond optimisation; and what is
    missing, of the controls `wanted` (all of them)."""
    missing = _missing(evidence, found, wanted)
    if evidence.shift is not None and evidence.beyond is None:
        missing.append({"code": evidence.why_not_beyond})
    if evidence.beyond is None or not found or not (groups := evidence.moving()):
        return {}, [], missing
    level = evidence.options.level
    left = {name: own for name, own in groups.items() if clear(evidence.beyond, _each(own), level)}
    apart = [family for family in found if clear(evidence.beyond, evidence.direction(family)[None], level)]
    gone = [name for name in [*found, *groups] if name not in [*apart, *left]]
    return left, apart, missing + [{"code": Missing.NOT_SEPARABLE, "family": name} for name in gone]


def _missing(evidence: Evidence, found: list[str], wanted: list[str] | None = None) -> list[dict]:
    """What stands in the way of comparing the spectra with the controls."""
    wanted = list(evidence.options.controls) if wanted is None else wanted
    if evidence.shift is None:
        return [{"code": Missing.NO_SHIFT}]
    if evidence.members(*DATA_FAMILIES).empty:
        return [{"code": Missing.NO_DATA_CONDITION}]
    missing = []
    if not evidence.moving():
        data = groups_of(evidence.conditions.iloc[1:], "data")
        missing.append({"code": Missing.DATA_NOT_DETECTED, "q": {name: evidence.moved[name] for name in data}})
    for family in wanted:
        if evidence.members(family).empty:
            code = Missing.LEFT_OUT if family in evidence.left_out else Missing.NO_CONTROL
            missing.append({"code": code, "family": family})
        elif family not in found and evidence.detected(family):
            missing.append({"code": Missing.OPPOSED, "family": family, **evidence.opposed(family)})
        elif family not in found:
            row = evidence.controls[(evidence.controls["family"] == family) & (evidence.controls["condition"] == "")]
            numbers = row[["q", "p_floor", "smallest_detectable"]].iloc[0].to_dict()
            missing.append({"code": Missing.NOT_DETECTED, "family": family, **numbers})
    return missing


def _undecided(*missing: dict, **details: dict) -> Judgement:
    asked = not all(fact["code"] in NOT_RUN for fact in missing)
    return Judgement(np.nan, np.nan, np.nan, 0, INCONCLUSIVE, asked, {"missing": missing, **details})


def _by_sign(low: float, high: float) -> str:
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE


def _difference(plus: list[str], minus: list[str]) -> dict[str, float]:
    return {**dict.fromkeys(plus, 1 / len(plus)), **dict.fromkeys(minus, -1 / len(minus))}


def _plain(value: object) -> object:
    """As JSON knows it; null for what is not known."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return float(value) if math.isfinite(value) else None
