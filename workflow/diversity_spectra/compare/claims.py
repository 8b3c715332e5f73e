"""The claims of the study, each judged from the data of the run at hand by one function.

Every function returns a `Claim` whose verdict follows from its numbers by the rule in its docstring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from diversity_spectra.compare.alignment import family_weights, opposed
from diversity_spectra.compare.benefits import Benefits
from diversity_spectra.compare.crossfit import Shifts, cosine_intervals, cosines
from diversity_spectra.compare.metric import log_vendi
from diversity_spectra.compare.options import Options

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
DATA_FAMILIES = ("augmentation", "synthetic")


@dataclass(frozen=True)
class Claim:
    """One row of the claims table. n: runs that the estimate rests on, the baseline's included."""

    claim: str
    statement: str
    estimand: str
    effect: float
    low: float
    high: float
    n: int
    verdict: str
    reason: str


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

    def opposed(self, family: str) -> str:
        """Two strengths of a family that move the spectra in opposite directions, in words; empty if none do."""
        families = self.conditions["family"].to_numpy()[1:]
        found = self.shift and opposed(self.shift, families, family, self.options.level)
        if not found:
            return ""
        pair, cosine = found
        one, other = self.conditions["strength"].iloc[1:].iloc[list(pair)]
        return f"{_plain(family)} {one:g} and {other:g} move the spectra in opposite directions (cosine {_interval(*cosine)})"


def like_regularisers(evidence: Evidence) -> Claim:
    """(a) Supported if, for a detected control, the whole interval of the mean cosine is at least `similarity`.

    Contradicted if for both controls, both detected, the interval ends below `similarity`. Intervals hold for all
    controls at once (Bonferroni). A control whose strengths oppose each other has no direction and does not count.
    """
    options = evidence.options
    statement = "Training-data diversity changes the spectra the way regularisers do."
    estimand = (
        "larger of the mean cosines of the shifts of augmentation and synthetic conditions with the directions of "
        "dropout and of weight decay, weighted by the lengths of the shifts"
    )
    found = [family for family in options.controls if evidence.usable(family)]
    missing = _missing(evidence, found)
    if missing and (not found or missing.startswith("no ")):
        return _undecided("a", statement, estimand, missing)
    level = options.level / len(found)
    results = {family: _mean_cosine(evidence, [family], level) for family in found}
    family = max(results, key=lambda name: np.nan_to_num(results[name][0], nan=-np.inf))
    effect, low, high = results[family]
    numbers = "; ".join(f"{_plain(name)}: {_interval(*value)}" for name, value in results.items())
    along = [_plain(name) for name, value in results.items() if value[1] >= options.similarity]
    if along:
        verdict, why = SUPPORTED, f"the shifts point along {' and '.join(along)} (mean cosine by control: {numbers})"
    elif not missing and all(value[2] < options.similarity for value in results.values()):
        verdict = CONTRADICTED
        why = f"the mean cosine stays below {options.similarity:g} with every control ({numbers})"
    else:
        verdict, why = INCONCLUSIVE, f"the intervals do not decide (mean cosine by control: {numbers})"
        why += f"; {missing}" if missing else ""
    return Claim(
        "a", statement, estimand, effect, low, high, _runs(evidence, *DATA_FAMILIES, *found), verdict, why + "."
    )


def more_like_dropout(evidence: Evidence) -> Claim:
    """(b) Supported if the interval of the difference lies above 0, contradicted if below 0.

    Both controls must be detected, and each have one direction.
    """
    statement = "Diversity acts more like dropout than like weight decay."
    estimand = (
        "mean cosine of the shifts of augmentation and synthetic conditions with the dropout direction minus that with "
        "the weight-decay direction, weighted by the lengths of the shifts"
    )
    pair = ["dropout", "weight_decay"]
    missing = _missing(evidence, [family for family in pair if evidence.usable(family)], pair)
    if missing:
        return _undecided("b", statement, estimand, missing)
    effect, low, high = _mean_cosine(evidence, pair, evidence.options.level)
    verdict = _by_sign(low, high)
    why = {
        SUPPORTED: "the shifts lie closer to dropout than to weight decay",
        CONTRADICTED: "the shifts lie closer to weight decay than to dropout",
        INCONCLUSIVE: "the difference cannot be told from 0",
    }[verdict]
    why = f"{why} (difference of mean cosines {_interval(effect, low, high)})"
    # Where the controls move the spectra alike, no difference between them can be large.
    why += f"; the cosine of dropout with weight decay is itself {_interval(*_cosine_of(evidence, pair))}."
    return Claim("b", statement, estimand, effect, low, high, _runs(evidence, *DATA_FAMILIES, *pair), verdict, why)


def synthetic_adds_most(evidence: Evidence) -> Claim:
    """(c) Two parts, both synthetic minus augmentation: diversity in every kernel, and out-of-distribution accuracy.

    Supported if both intervals lie above 0 (the diversity one in every kernel), contradicted if either lies below 0;
    each has half of the error level.
    """
    statement = "Synthetic data add more diversity than classical augmentation and help most out of distribution."
    estimand = (
        "mean out-of-distribution accuracy of the synthetic conditions minus that of the augmentation conditions; "
        "beside it the same difference in ln(Vendi), order 1, per kernel"
    )
    synthetic, augmented = (list(evidence.members(family)["condition"]) for family in ("synthetic", "augmentation"))
    if not synthetic or not augmented:
        return _undecided("c", statement, estimand, "no synthetic or no augmentation condition in this experiment")
    level = evidence.options.level / 2
    weights = _difference(synthetic, augmented)
    effect, low, high = evidence.benefits.contrast(weights, "ood_accuracy", level)
    if not np.isfinite(effect):
        return _undecided("c", statement, estimand, "no out-of-distribution accuracy was measured")
    # Sets are compared with each other: the baseline's score, and its error, would cancel.
    by_set = evidence.conditions.set_index("condition")["training_set"]
    factors = pd.Series(weights).groupby(by_set, sort=False).sum()
    parts = {}
    for kernel, logs in log_vendi(evidence.diversity, factors.index).items():
        difference, spread = factors @ logs[:, 0], np.sqrt(factors**2 @ logs[:, 1] ** 2)
        half = stats.norm.ppf(1 - level / 2) * spread
        parts[kernel] = (difference, difference - half, difference + half)
    signs = {_by_sign(part_low, part_high) for _, part_low, part_high in parts.values()}
    diverse = signs.pop() if len(signs) == 1 else INCONCLUSIVE
    helps = _by_sign(low, high)
    verdict = SUPPORTED if diverse == helps == SUPPORTED else INCONCLUSIVE
    verdict = CONTRADICTED if CONTRADICTED in (diverse, helps) else verdict
    kernels = ", ".join(f"{kernel} {_interval(*part)}" for kernel, part in parts.items()) or "not measured"
    why = (
        f"out-of-distribution accuracy, synthetic minus augmentation: {_interval(effect, low, high, 4)} ({helps}); "
        f"ln(Vendi) difference by kernel: {kernels} ({diverse})."
    )
    return Claim("c", statement, estimand, effect, low, high, _runs(evidence, *DATA_FAMILIES), verdict, why)


def too_much_hurts(evidence: Evidence) -> Claim:
    """(d) Supported if the largest amount is below some smaller one, interval and all; contradicted if above every one.

    Smaller amounts include none (the baseline). Added and replaced synthetic data are separate curves, each with at
    least two amounts. Intervals hold for all comparisons at once (Bonferroni); the lowest difference is the effect.
    """
    statement = "Too much synthetic data hurts."
    estimand = (
        "test accuracy at the largest synthetic amount minus that at the smaller amount it falls behind most; images of "
        "one generator, trained or sampled once"
    )
    options, benefits = evidence.options, evidence.benefits
    comparisons = []
    for kind, curve in evidence.members("synthetic").groupby("kind"):
        if curve["strength"].nunique() < 2:
            continue
        curve = curve.sort_values("strength")
        largest, smaller = curve["condition"].iloc[-1], curve["condition"].iloc[:-1]
        comparisons += [(kind, largest, other) for other in [*smaller, benefits.conditions[0]]]
    if not comparisons:
        return _undecided("d", statement, estimand, "no curve of at least two synthetic amounts in this experiment")
    level = options.level / len(comparisons)
    results = [benefits.contrast({a: 1.0, b: -1.0}, "id_accuracy", level) for _, a, b in comparisons]
    if not np.isfinite([effect for effect, _, _ in results]).all():
        return _undecided("d", statement, estimand, "no test accuracy was measured")
    if not np.isfinite(results).all():
        why = "no condition has two runs that differ in test accuracy, so differences have no noise to be told from"
        return _undecided("d", statement, estimand, why)
    worst = int(np.argmin([result[0] for result in results]))
    decided = int(np.argmin([result[2] for result in results]))
    verdict = INCONCLUSIVE
    if results[decided][2] < 0:
        verdict, worst = SUPPORTED, decided
    elif all(result[1] > 0 for result in results):
        verdict = CONTRADICTED
    _, largest, other = comparisons[worst]
    effect, low, high = results[worst]
    shifted = benefits.contrast({largest: 1.0, other: -1.0}, "ood_accuracy", options.level)
    told = {SUPPORTED: "is lower", CONTRADICTED: "is higher", INCONCLUSIVE: "cannot be told apart from"}[verdict]
    joint = "" if verdict == INCONCLUSIVE else " than"
    why = (
        f"test accuracy of {largest} {told}{joint} that of {other} ({_interval(effect, low, high, 4)}"
        f"{', and than all smaller amounts' if verdict == CONTRADICTED else ''})"
    )
    why += f"; out of distribution the difference is {_interval(*shifted, 4)}." if np.isfinite(shifted[0]) else "."
    return Claim("d", statement, estimand, effect, low, high, _runs(evidence, "synthetic"), verdict, why)


CLAIMS = (like_regularisers, more_like_dropout, synthetic_adds_most, too_much_hurts)


def _mean_cosine(evidence: Evidence, pair: list[str], level: float) -> tuple[float, float, float]:
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


def _cosine_of(evidence: Evidence, pair: list[str]) -> tuple[float, float, float]:
    """Cosine between the directions of two control families, and its interval."""
    families = evidence.conditions["family"].to_numpy()[1:]
    directions = evidence.shift.combine(np.array([family_weights(families, family) for family in pair]))
    low, high = cosine_intervals(directions, np.array([[0, 1]]), evidence.options.level)[0]
    return float(cosines(directions.unbiased)[0, 1]), float(low), float(high)


def _missing(evidence: Evidence, found: list[str], wanted: list[str] | None = None) -> str:
    """Why the spectra cannot be compared with the controls; empty if they can."""
    wanted = list(evidence.options.controls) if wanted is None else wanted
    if evidence.shift is None:
        return "no shifts could be computed: the baseline needs runs, and some condition at least two"
    if evidence.members(*DATA_FAMILIES).empty:
        return "no augmentation or synthetic condition in this experiment"
    told = []
    for family in wanted:
        if evidence.members(family).empty:
            told.append(f"{_plain(family)} is not part of this experiment")
        elif family not in found and evidence.detected(family):
            told.append(evidence.opposed(family))
        elif family not in found:
            row = evidence.controls[(evidence.controls["family"] == family) & (evidence.controls["condition"] == "")]
            q, floor, seen = (float(row[name].iloc[0]) for name in ("q", "p_floor", "smallest_detectable"))
            power = f"; a shift of {seen:.2g} noise standard deviations per measure could have been seen"
            told.append(
                f"the positive control {_plain(family)} is not detected (corrected p {q:.3g}, the least possible p "
                f"{floor:.2g}{power if np.isfinite(seen) else ''})"
            )
    return "; ".join(told)


def _undecided(claim: str, statement: str, estimand: str, why: str) -> Claim:
    return Claim(claim, statement, estimand, np.nan, np.nan, np.nan, 0, INCONCLUSIVE, f"{why}.")


def _by_sign(low: float, high: float) -> str:
    return SUPPORTED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE


def _difference(plus: list[str], minus: list[str]) -> dict[str, float]:
    return {**dict.fromkeys(plus, 1 / len(plus)), **dict.fromkeys(minus, -1 / len(minus))}


def _runs(evidence: Evidence, *families: str) -> int:
    names = evidence.members("baseline", *families)["condition"]
    return int(sum(evidence.benefits.n[evidence.benefits.conditions.index(name)] for name in names))


def _plain(family: str) -> str:
    return family.replace("_", " ")


def _interval(effect: float, low: float, high: float, digits: int = 2) -> str:
    if not np.isfinite(effect):
        return "not known"
    ends = f"{low:+.{digits}f}, {high:+.{digits}f}" if np.isfinite([low, high]).all() else "not known"
    return f"{effect:+.{digits}f} [{ends}]"
