"""The claims of the study, each judged from the data of the run at hand by one function.

A judgement holds numbers and codes; its verdict follows from them by the rule in the docstring of its function. The
sentences are the report's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import numpy as np
import pandas as pd

from diversity_spectra.compare.alignment import family_weights, opposed
from diversity_spectra.compare.benefits import Benefits
from diversity_spectra.compare.crossfit import Shifts, cosine_intervals, cosines
from diversity_spectra.compare.metric import log_vendi, score_quantile
from diversity_spectra.compare.options import Options
from diversity_spectra.conditions import of_role

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
DATA_FAMILIES = of_role("data")

Interval = tuple[float, float, float]  # estimate, low, high


class Missing(StrEnum):
    """What stands in the way of a verdict."""

    NO_SHIFT = "no_shift"  # the baseline needs runs, and some condition at least two
    NO_DATA_CONDITION = "no_data_condition"
    NO_CONTROL = "no_control"  # family
    NOT_DETECTED = "not_detected"  # family, q, p_floor, smallest_detectable
    OPPOSED = "opposed"  # family, strengths of it that move the spectra in opposite directions, their cosine
    NO_SYNTHETIC_OR_NO_AUGMENTATION = "no_synthetic_or_no_augmentation"
    NO_OOD_ACCURACY = "no_ood_accuracy"
    NO_CURVE = "no_curve"  # of at least two synthetic amounts
    NO_ACCURACY = "no_accuracy"
    NO_NOISE = "no_noise"  # no condition has two runs that differ in test accuracy


# Where nothing else is missing, the experiment was not meant to ask.
NOT_RUN = {
    Missing.NO_DATA_CONDITION,
    Missing.NO_CONTROL,
    Missing.NO_SYNTHETIC_OR_NO_AUGMENTATION,
    Missing.NO_CURVE,
}


@dataclass(frozen=True)
class Judgement:
    """What the data say of a claim.

    n: runs that the estimate rests on, the baseline's included; 0 where there is none. asked: whether the experiment has
    the conditions that the claim is about. details: the facts behind the verdict, named in docs/method.md; intervals are
    triples, and `missing` lists what stands in the way, each with a `code` of `Missing`; alone where nothing is estimated.
    """

    effect: float
    low: float
    high: float
    n: int
    verdict: str
    asked: bool = True
    details: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged from, for one model. conditions: baseline first. shift: None if there is none."""

    conditions: pd.DataFrame
    shift: Shifts | None
    controls: pd.DataFrame
    benefits: Benefits
    diversity: pd.DataFrame
    options: Options

    def members(self, *families: str) -> pd.DataFrame:
        return self.conditions[self.conditions["family"].isin(families)]

    def detected(self, family: str) -> bool:
        """Is the control family, over all its strengths, beyond the noise floor?"""
        if self.controls.empty:
            return False
        row = self.controls[(self.controls["family"] == family) & (self.controls["condition"] == "")]
        return bool(row["detected"].any())

    def usable(self, family: str) -> bool:
        """Is the control family detected, and has it one direction?"""
        return self.detected(family) and not self.opposed(family)

    def opposed(self, family: str) -> dict:
        """Two strengths of a family that move the spectra in opposite directions, and their cosine; empty if none do."""
        families = self.conditions["family"].to_numpy()[1:]
        found = self.shift and opposed(self.shift, families, family, self.options.level)
        if not found:
            return {}
        pair, cosine = found
        strengths = self.conditions["strength"].iloc[1:].iloc[list(pair)]
        return {"strengths": [float(strength) for strength in strengths], "cosine": cosine}


def like_regularisers(evidence: Evidence) -> Judgement:
    """(a) Supported if, for a detected control, the whole interval of the mean cosine is at least `similarity`.

    Contradicted if for both controls, both detected, the interval ends below `similarity`. Intervals hold for all
    controls at once (Bonferroni). A control whose strengths oppose each other has no direction and does not count.
    """
    options = evidence.options
    found = [family for family in options.controls if evidence.usable(family)]
    missing = _missing(evidence, found)
    if missing and (not found or not all("family" in fact for fact in missing)):
        return _undecided(*missing)
    level = options.level / len(found)
    results = {family: _mean_cosine(evidence, [family], level) for family in found}
    family = max(results, key=lambda name: np.nan_to_num(results[name][0], nan=-np.inf))
    along = [name for name, (_, low, _) in results.items() if low >= options.similarity]
    verdict = INCONCLUSIVE
    if along:
        verdict = SUPPORTED
    elif not missing and all(high < options.similarity for _, _, high in results.values()):
        verdict = CONTRADICTED
    details = {"cosines": results, "along": along, "similarity": options.similarity, "missing": missing}
    return Judgement(*results[family], _runs(evidence, *DATA_FAMILIES, *found), verdict, details=details)


def more_like_dropout(evidence: Evidence) -> Judgement:
    """(b) Supported if the interval of the difference lies above 0, contradicted if below 0.

    Both controls must be detected, and each have one direction.
    """
    pair = ["dropout", "weight_decay"]
    missing = _missing(evidence, [family for family in pair if evidence.usable(family)], pair)
    if missing:
        return _undecided(*missing)
    effect, low, high = _mean_cosine(evidence, pair, evidence.options.level)
    # Where the controls move the spectra alike, no difference between them can be large.
    details = {"cosine_of_controls": _cosine_of(evidence, pair)}
    runs = _runs(evidence, *DATA_FAMILIES, *pair)
    return Judgement(effect, low, high, runs, _by_sign(low, high), details=details)


def synthetic_adds_most(evidence: Evidence) -> Judgement:
    """(c) Two parts, both synthetic minus augmentation: diversity in every kernel, and out-of-distribution accuracy.

    Supported if both intervals lie above 0 (the diversity one in every kernel), contradicted if either lies below 0;
    each has half of the error level.
    """
    synthetic, augmented = (list(evidence.members(family)["condition"]) for family in ("synthetic", "augmentation"))
    if not synthetic or not augmented:
        return _undecided({"code": Missing.NO_SYNTHETIC_OR_NO_AUGMENTATION})
    level = evidence.options.level / 2
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
    return Judgement(effect, low, high, _runs(evidence, *DATA_FAMILIES), verdict, details=details)


def too_much_hurts(evidence: Evidence) -> Judgement:
    """(d) Supported if the largest amount is below some smaller one, interval and all; contradicted if above every one.

    Smaller amounts include none (the baseline). Added and replaced synthetic data are separate curves, each with at
    least two amounts. Intervals hold for all comparisons at once (Bonferroni); the lowest difference is the effect.
    """
    options, benefits = evidence.options, evidence.benefits
    comparisons = []
    for kind, curve in evidence.members("synthetic").groupby("kind"):
        if curve["strength"].nunique() < 2:
            continue
        curve = curve.sort_values("strength")
        largest, smaller = curve["condition"].iloc[-1], curve["condition"].iloc[:-1]
        comparisons += [(kind, largest, other) for other in [*smaller, benefits.conditions[0]]]
    if not comparisons:
        return _undecided({"code": Missing.NO_CURVE})
    level = options.level / len(comparisons)
    results = [benefits.contrast({a: 1.0, b: -1.0}, "id_accuracy", level) for _, a, b in comparisons]
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
    _, largest, other = comparisons[worst]
    outside = benefits.contrast({largest: 1.0, other: -1.0}, "ood_accuracy", options.level)
    details = {"condition": largest, "than": other, "ood_accuracy": outside}
    return Judgement(*results[worst], _runs(evidence, "synthetic"), verdict, details=details)


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
        "larger of the mean cosines of the shifts of augmentation and synthetic conditions with the directions of "
        "dropout and of weight decay, weighted by the lengths of the shifts",
        like_regularisers,
    ),
    Claim(
        "b",
        "Diversity acts more like dropout than like weight decay.",
        "mean cosine of the shifts of augmentation and synthetic conditions with the dropout direction minus that with "
        "the weight-decay direction, weighted by the lengths of the shifts",
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


def _mean_cosine(evidence: Evidence, pair: list[str], level: float) -> Interval:
    """Length-weighted mean cosine of the data conditions with a family, or the difference of two; with interval.

    sum <shift_c, f> / (|f| sum |shift_c|), cross-fitted: a condition that hardly moves hardly counts, and no single
    cosine needs to be identifiable. The interval is pivotal: quantiles of (numerator - estimate * denominator) over
    simulated experiments, whose denominators may be small without harm, over the observed denominator.
    """
    families = evidence.conditions["family"].to_numpy()[1:]
    data = np.isin(families, DATA_FAMILIES)
    bound = float(len(pair))

    def parts(gram: np.ndarray, family: str) -> tuple[np.ndarray, np.ndarray]:
        direction = family_weights(families, family)
        along = gram @ direction
        lengths = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1)[..., data], 0.0)).sum(axis=-1)
        return along[..., data].sum(axis=-1), np.sqrt(np.maximum(along @ direction, 0.0)) * lengths

    draws = evidence.shift.draws()
    effect, error = 0.0, 0.0
    for sign, family in zip((1, -1), pair, strict=False):
        numerator, denominator = parts(evidence.shift.unbiased, family)
        if not denominator > 0:
            return np.nan, -bound, bound
        drawn = parts(draws, family)
        effect += sign * numerator / denominator
        error = error + sign * (drawn[0] - numerator / denominator * drawn[1]) / denominator
    low, high = effect - np.quantile(error, [1 - level / 2, level / 2])
    effect = float(np.clip(effect, -bound, bound))
    return effect, float(np.clip(low, -bound, effect)), float(np.clip(high, effect, bound))


def _cosine_of(evidence: Evidence, pair: list[str]) -> Interval:
    """Cosine between the directions of two control families, and its interval."""
    families = evidence.conditions["family"].to_numpy()[1:]
    directions = evidence.shift.combine(np.array([family_weights(families, family) for family in pair]))
    low, high = cosine_intervals(directions, np.array([[0, 1]]), evidence.options.level)[0]
    return float(cosines(directions.unbiased)[0, 1]), float(low), float(high)


def _missing(evidence: Evidence, found: list[str], wanted: list[str] | None = None) -> list[dict]:
    """What stands in the way of comparing the spectra with the controls."""
    wanted = list(evidence.options.controls) if wanted is None else wanted
    if evidence.shift is None:
        return [{"code": Missing.NO_SHIFT}]
    if evidence.members(*DATA_FAMILIES).empty:
        return [{"code": Missing.NO_DATA_CONDITION}]
    missing = []
    for family in wanted:
        if evidence.members(family).empty:
            missing.append({"code": Missing.NO_CONTROL, "family": family})
        elif family not in found and evidence.detected(family):
            missing.append({"code": Missing.OPPOSED, "family": family, **evidence.opposed(family)})
        elif family not in found:
            row = evidence.controls[(evidence.controls["family"] == family) & (evidence.controls["condition"] == "")]
            numbers = row[["q", "p_floor", "smallest_detectable"]].iloc[0].to_dict()
            missing.append({"code": Missing.NOT_DETECTED, "family": family, **numbers})
    return missing


def _undecided(*missing: dict) -> Judgement:
    asked = not all(fact["code"] in NOT_RUN for fact in missing)
    return Judgement(np.nan, np.nan, np.nan, 0, INCONCLUSIVE, asked, {"missing": missing})


def _by_sign(low: float, high: float) -> str:
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE


def _difference(plus: list[str], minus: list[str]) -> dict[str, float]:
    return {**dict.fromkeys(plus, 1 / len(plus)), **dict.fromkeys(minus, -1 / len(minus))}


def _runs(evidence: Evidence, *families: str) -> int:
    names = evidence.members("baseline", *families)["condition"]
    return int(sum(evidence.benefits.n[evidence.benefits.conditions.index(name)] for name in names))


def _plain(value: object) -> object:
    """As JSON knows it; null for what is not known."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return float(value) if math.isfinite(value) else None
