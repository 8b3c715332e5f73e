"""The answer: what was detected, what it cost, and the verdicts on the claims."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from diversity_spectra.compare.evidence import CONTRADICTED, INCONCLUSIVE, MIXED, SUPPORTED, Missing
from diversity_spectra.report.material import CONTROLS, Material
from diversity_spectra.report.section import Section
from diversity_spectra.report.sections.training import warnings
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import NOTHING, fixed, interval, kernel, listing, plain, probability
from diversity_spectra.report.words import condition as told

NOT_ASKED = "not asked"
VERDICTS = (SUPPORTED, CONTRADICTED, MIXED, INCONCLUSIVE, NOT_ASKED)


@dataclass(frozen=True)
class Judged:
    """One claim for one network, as text."""

    model: str
    verdict: str
    effect: str
    n: str
    reason: str


@dataclass(frozen=True)
class Claim:
    letter: str
    statement: str
    estimand: str
    judged: list[Judged]


def lead(material: Material) -> list[tuple[str, str]]:
    """Could the network see its controls, and what they cost it: a sentence per network."""
    answers = []
    for model in material.models:
        controls = material.table("controls", model)
        whole = controls[controls["condition"] == ""] if len(controls) else controls
        seen = [plain(row.family) for row in whole.itertuples() if row.detected]
        unseen = [plain(row.family) for row in whole.itertuples() if not row.detected]
        if seen and unseen:
            text = f"{listing(seen)} shifts the spectra beyond the noise, {listing(unseen)} does not"
        elif seen:
            text = f"{listing(seen)} {'shift' if len(seen) > 1 else 'shifts'} the spectra beyond the noise"
        elif unseen:
            none = (
                f"neither {unseen[0]} nor {listing(unseen[1:], 'or')}" if len(unseen) > 1 else f"not even {unseen[0]}"
            )
            text = f"{none} can be told from the noise between runs, so nothing can be compared with {_them(unseen)}"
            if (whole["p_floor"] >= material.level).all():
                text += " (so few runs could not have shown any effect)"
        elif material.table("runs", model)["condition"].value_counts().max() == 1 < len(material.conditions(model)):
            text = (
                "with one run of each condition nothing is known of the noise between runs; what such runs can show"
                " stands under the study's own analysis"
            )
        elif untested := [plain(family) for family in material.families(model) if family in CONTROLS]:
            text = f"{listing(untested)} could not be tested, so nothing can be compared with {_them(untested)}"
        else:
            text = "no regulariser was run, so there is nothing to compare with"
        text += "".join(_costs(material, model, family) for family in dict.fromkeys(whole.get("family", ())))
        text += "." if len(material.table("claims", model)) else ". No claim was judged."
        answers.append((model, text[0].upper() + text[1:]))
    return answers


@dataclass(frozen=True)
class Cell:
    """One claim for one network on the first screen: the verdict, and a sentence with its number."""

    verdict: str
    effect: str
    sentence: str


def matrix(judged: list[Claim]) -> dict[str, dict[str, Cell]]:
    """Verdicts by network and claim, as on the first screen: the pill, the number, and both in a sentence."""
    cells: dict[str, dict[str, Cell]] = {}
    for claim in judged:
        words = WORDS[claim.letter]
        for row in claim.judged:
            known = row.effect not in (NOTHING, "not determined")
            number = f", {words.unit} {row.effect}, {row.n} runs" if known else ""
            # The first of the reasons, without its numbers in brackets, which stand below.
            reason = re.split(r";| \(", row.reason)[0].rstrip(".")
            why = "" if known or row.verdict == NOT_ASKED else f" ({reason})"
            text = f"{claim.statement.rstrip('.')}: {row.verdict}{number}{why}."
            cells.setdefault(row.model, {})[claim.letter] = Cell(row.verdict, row.effect if known else "", text)
    return cells


def shorts(judged: list[Claim]) -> dict[str, str]:
    """Every claim that was judged, in a few words."""
    return {claim.letter: WORDS[claim.letter].short for claim in judged}


def seen(material: Material) -> dict[str, dict[str, bool]]:
    """By network and control: was it detected, over all its strengths?"""
    table = material.table("controls")
    whole = table[table["condition"] == ""] if len(table) else table
    found = {model: {} for model in material.models}
    for row in whole.itertuples():
        found.setdefault(row.model, {})[row.family] = bool(row.detected)
    return found


def _costs(material: Material, model: str, family: str) -> str:
    """That a regulariser lowers the test accuracy at every strength, where it does."""
    conditions = material.conditions(model)
    gains = _gains(material, model, list(conditions.loc[conditions["family"] == family, "condition"]))
    if gains.empty or not (gains["id_accuracy_gain_high"] < 0).all():
        return ""
    return f"; {plain(family)} lowers the test accuracy at every strength ({_accuracy_change(gains)})"


def _them(items: list[str]) -> str:
    return "them" if len(items) > 1 else "it"


def controls(material: Material, strengths: bool = True) -> Table:
    """Families, each followed by its strengths where it has several; without strengths, families alone."""
    table = material.table("controls")
    rows = []
    groups = list(table.groupby(["model", "family"], sort=False)) if len(table) else []
    for (model, family), group in sorted(groups, key=lambda one: material.models.index(one[0][0])):
        members = list(group.loc[group["condition"] != "", "condition"])
        alone = told(members[0]) if strengths else plain(family)
        several = strengths and len(members) > 1
        for row in group[several | (group["condition"] == "")].to_dict("records"):
            name = told(row["condition"]) or (f"{plain(family)}, all strengths" if several else alone)
            rows.append(
                [
                    model,
                    name,
                    "detected" if row["detected"] else "not detected",
                    fixed(row["effect"], 2),
                    fixed(row["smallest_detectable"], 2),
                    probability(row["q"]),
                    probability(row["p_floor"]),
                    _accuracy_change(_gains(material, model, [row["condition"]] if row["condition"] else members)),
                    f"{int(row['n'])} / {int(row['n_baseline'])}",
                ]
            )
    head = ["network", "regulariser", "result", "effect", "smallest detectable", "corrected p", "least possible p"]
    return Table([*head, "change of test accuracy", "runs / baseline runs"], rows, 3)


def _gains(material: Material, model: str, conditions: list[str]) -> pd.DataFrame:
    """Rows of the metric for these conditions, where their test accuracy is known."""
    table = material.table("metric", model)
    if table.empty:
        return table
    return table[table["condition"].isin(conditions) & table["id_accuracy_gain"].notna()]


def _accuracy_change(gains: pd.DataFrame) -> str:
    """Of one condition with its interval, of several from the lowest to the highest."""
    if gains.empty:
        return NOTHING
    if len(gains) == 1:
        ends = gains.iloc[0][["id_accuracy_gain", "id_accuracy_gain_low", "id_accuracy_gain_high"]]
        return interval(*ends.astype(float), sign=True)
    change = gains["id_accuracy_gain"]
    return f"{fixed(change.min(), sign=True)} to {fixed(change.max(), sign=True)}"


def verdicts(claims: pd.DataFrame) -> pd.Series:
    """Of a table of claims, with NOT_ASKED where nothing but the conditions of the experiment was missing."""
    return claims["verdict"].where(claims["asked"].astype(bool), NOT_ASKED)


def claims(material: Material) -> list[Claim]:
    """Every claim with its verdict for each network."""
    table = material.table("claims")
    table = table.assign(told=verdicts(table)) if len(table) else table
    result = []
    for letter, rows in table.groupby("claim", sort=True) if len(table) else ():
        words = WORDS[str(letter)]
        judged = [
            Judged(
                row["model"],
                row["told"],
                _cosine([row["effect"], row["low"], row["high"]])
                if letter == "a" and math.isfinite(row["effect"])
                else interval(row["effect"], row["low"], row["high"], words.digits, sign=True),
                str(int(row["n"])) if row["n"] else NOTHING,
                words.reason(row) + (_agreement(material, model, str(letter)) if row["asked"] else ""),
            )
            for model in material.models
            for row in rows[rows["model"] == model].to_dict("records")
        ]
        result.append(Claim(str(letter), rows["statement"].iloc[0], rows["estimand"].iloc[0], judged))
    return result


def _agreement(material: Material, model: str, letter: str) -> str:
    """How many other choices of analysis lead to the same verdict, where any of them leads to an effect."""
    table = material.table("robustness", model)
    others = table[(table["claim"] == letter) & (table["kind"] != "")] if len(table) else table
    if others.empty or others["effect"].isna().all():
        return ""
    return f" Of {len(others)} other choices of analysis, {int(others['agrees'].sum())} lead to the same verdict."


# ---------------------------------------------------------------- the reasons, from the facts behind each verdict


@dataclass(frozen=True)
class Words:
    """How a claim is told. digits: of its effect. sentence: from the row and its details, where there is an estimate.
    short: the claim in a few words. unit: what its effect is.

    Of a claim without one, the details say what is missing.
    """

    digits: int
    sentence: Callable[[dict, dict], str]
    short: str
    unit: str

    def reason(self, row: dict) -> str:
        """Why the verdict of a row of the table is what it is."""
        details = json.loads(row["details"])
        if not details.keys() <= {"missing", "plain"}:
            return f"{self.sentence(row, details)}."
        text = _missing(details)
        if numbers := details.get("plain"):
            text += f"; cosines with longer training not taken out: {_by_name(numbers)}"
        return f"{text}."


def _like_regularisers(row: dict, details: dict) -> str:
    families = "; ".join(
        f"{plain(name)} {details['families'][name]} ({_by_name(cosines)})"
        for name, cosines in details["cosines"].items()
    )
    text = (
        f"beyond longer training and a higher rate, mean cosine by control, to be {details['similarity']:g} or more: "
        f"{families}; not beyond them, over all data: {_by_name(details['plain'])}"
    )
    return f"{text}; {_missing(details)}" if details["missing"] else text


def _more_like_dropout(row: dict, details: dict) -> str:
    text = (
        f"beyond longer training and a higher rate, difference of mean cosines {_effect(row, 2)}, to be more than "
        f"{details['relevant']:g}: {_families(details, details['differences'])}; the cosine of dropout with weight decay is "
        f"there {_numbers(details['cosine_of_controls'])}; not beyond them, over all data: {_by_name(details['plain'])}"
    )
    return f"{text}; {_missing(details)}" if details["missing"] else text


def _unlike_optimisation(row: dict, details: dict) -> str:
    return (
        f"share of the squared shifts that is not along longer training or a higher rate {_effect(row, 2)}, to be more than "
        f"{details['own']:g}: {_families(details, details['shares'])}; what is along them is not separable from longer "
        "training"
    )


def _families(details: dict, numbers: dict) -> str:
    """Verdict and numbers of every family of data."""
    return "; ".join(
        f"{plain(name)} {details['families'][name]} ({_numbers(triple)})" for name, triple in numbers.items()
    )


def _by_name(numbers: dict) -> str:
    """Cosines by name; of one whose interval is all that a cosine can be, that nothing is known."""
    return ", ".join(f"{plain(name)} {_cosine(triple)}" for name, triple in numbers.items())


def _cosine(triple: list[float | None]) -> str:
    if None not in triple and triple[1] <= -0.995 and triple[2] >= 0.995:
        return "not determined"
    return _numbers(triple)


def _synthetic_adds_most(row: dict, details: dict) -> str:
    kernels = "; ".join(f"{kernel(name)} {_numbers(part)}" for name, part in details["ln_vendi"].items())
    return (
        f"out-of-distribution accuracy, synthetic minus augmentation: {_effect(row, 4)} ({details['ood_accuracy']}); "
        f"ln(Vendi) difference by kernel: {kernels or 'not measured'} ({details['diversity']})"
    )


def _too_much_hurts(row: dict, details: dict) -> str:
    verdict = row["verdict"]
    compared = {SUPPORTED: "is lower than", CONTRADICTED: "is higher than", INCONCLUSIVE: "cannot be told apart from"}
    text = (
        f"test accuracy of {told(details['condition'])} {compared[verdict]} that of {told(details['than'])} "
        f"({_effect(row, 4)}{', and than all smaller amounts' if verdict == CONTRADICTED else ''})"
    )
    outside = details["ood_accuracy"]
    return f"{text}; out of distribution the difference is {_numbers(outside, 4)}" if outside[0] is not None else text


WORDS = {
    "a": Words(2, _like_regularisers, "like a regulariser", "partial cosine"),
    "b": Words(2, _more_like_dropout, "more like dropout than weight decay", "difference of cosines"),
    "c": Words(4, _synthetic_adds_most, "synthetic data most diverse and most helpful", "accuracy out of distribution"),
    "d": Words(4, _too_much_hurts, "too much synthetic data hurts", "test accuracy"),
    "e": Words(2, _unlike_optimisation, "more than longer training", "share of the squared shifts"),
}

MISSING = {
    Missing.NO_SHIFT: "no shifts could be computed: the baseline needs runs, and some condition at least two",
    Missing.NO_DATA_CONDITION: "no augmentation or synthetic condition in this experiment",
    Missing.NO_CONTROL: "{family} is not part of this experiment",
    Missing.LEFT_OUT: "no run of {family} has measures enough to be compared",
    Missing.NOT_DETECTED: "the positive control {family} is not detected ({chance})",
    Missing.OPPOSED: "{family} {strengths} move the spectra in opposite directions (cosine {cosine})",
    Missing.NO_OPTIMISATION: (
        "no other number of steps or learning rate was run, so nothing can be told from longer training"
    ),
    Missing.OPTIMISATION_NOT_DETECTED: (
        "other numbers of steps or rates do not move the spectra beyond the noise, so nothing can be told from them"
    ),
    Missing.DATA_NOT_DETECTED: "no family of data is detected (corrected p: {chances})",
    Missing.NOT_SEPARABLE: "{family} is not separable from longer training or a higher rate",
    Missing.ALIKE: (
        "beyond longer training, dropout and weight decay cannot be told apart: their cosine is {cosine}, where its interval "
        "had to end below {distinct}"
    ),
    Missing.NO_SYNTHETIC_OR_NO_AUGMENTATION: "no synthetic or no augmentation condition in this experiment",
    Missing.NO_OOD_ACCURACY: "no out-of-distribution accuracy was measured",
    Missing.NO_CURVE: "no curve of at least two synthetic amounts in this experiment",
    Missing.NO_ACCURACY: "no test accuracy was measured of some amount, or of the baseline",
    Missing.NO_NOISE: (
        "no condition has two runs that differ in test accuracy, so differences have no noise to be told from"
    ),
}


def _missing(details: dict) -> str:
    """What stands in the way of a verdict."""
    return "; ".join(MISSING[fact["code"]].format(**_spelled(fact)) for fact in details["missing"])


def _spelled(fact: dict) -> dict[str, str]:
    """The numbers and names of a fact as text."""
    spelled = {"family": plain(fact.get("family", ""))}
    if "strengths" in fact:
        spelled["strengths"] = " and ".join(f"{strength:g}" for strength in fact["strengths"])
    if "cosine" in fact:
        spelled["cosine"] = _numbers(fact["cosine"])
    if "distinct" in fact:
        spelled["distinct"] = f"{fact['distinct']:g}"
    if isinstance(fact.get("q"), dict):
        spelled["chances"] = ", ".join(f"{plain(name)} {probability(q)}" for name, q in fact["q"].items())
    elif "q" in fact:
        spelled["chance"] = f"corrected p {fact['q']:.3g}, the least possible p {fact['p_floor']:.2g}"
        if (seen := fact["smallest_detectable"]) is not None:
            spelled["chance"] += f"; a shift of {seen:.2g} noise standard deviations per measure could have been seen"
    return spelled


def _effect(row: dict, digits: int) -> str:
    return _numbers([row["effect"], row["low"], row["high"]], digits)


def _numbers(triple: list[float | None], digits: int = 2) -> str:
    """An estimate with its interval, or that they are not known."""
    effect, low, high = (math.nan if value is None else value for value in triple)
    if math.isnan(effect):
        return "not known"
    known = math.isfinite(low) and math.isfinite(high)
    return interval(effect, low, high, digits, sign=True) + ("" if known else " [not known]")


def facts(material: Material) -> dict[str, object]:
    judged = claims(material)
    return {
        "lead": lead(material),
        "warnings": warnings(material),
        "matrix": matrix(judged),
        "shorts": shorts(judged),
        "seen": seen(material),
        # Of many networks, single strengths would fill pages; they stand in the table `controls`.
        "controls": controls(material, strengths=len(material.models) <= 2),
        "claims": judged,
        "level": material.level,
        "power": material.power,
    }


SECTION = Section("answer", "The answer", facts=facts)
