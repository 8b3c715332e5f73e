"""The answer: what was detected, what it cost, and the verdicts on the claims."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Section
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import NOTHING, fixed, interval, kernel, listing, plain, probability, signs
from diversity_spectra.report.words import condition as told

DIGITS = {"a": 2, "b": 2, "c": 4, "d": 4}  # of a claim's effect, as its reason has them
NOT_ASKED = "not in this experiment"
VERDICTS = ("supported", "contradicted", "inconclusive", NOT_ASKED)


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
    """The answer in a few words per network."""
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
        else:
            text = "no regulariser was run, so there is nothing to compare with"
        text += "".join(_costs(material, model, family) for family in dict.fromkeys(whole.get("family", ())))
        claims = material.table("claims", model)
        judged = verdicts(claims).value_counts() if len(claims) else {}
        counts = [f"{judged[name]} {name}" for name in VERDICTS if name in judged]
        text += f". Claims: {listing(counts)}." if counts else ". No claim was judged."
        answers.append((model, text[0].upper() + text[1:]))
    return answers


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
    for (model, family), group in table.groupby(["model", "family"], sort=False) if len(table) else ():
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
    unasked = claims["reason"].str.fullmatch(r"([^;]* this experiment(; |\.))+") & (claims["n"] == 0)
    return claims["verdict"].mask(unasked, NOT_ASKED)


def claims(material: Material) -> list[Claim]:
    """Every claim with its verdict for each network."""
    table = material.table("claims")
    table = table.assign(verdict=verdicts(table)) if len(table) else table
    result = []
    for letter, rows in table.groupby("claim", sort=True) if len(table) else ():
        judged = [
            Judged(
                row["model"],
                row["verdict"],
                interval(row["effect"], row["low"], row["high"], DIGITS[letter], sign=True),
                str(int(row["n"])) if row["n"] else NOTHING,
                _reason(row["reason"], list(material.conditions(model)["condition"])),
            )
            for model in material.models
            for row in rows[rows["model"] == model].to_dict("records")
        ]
        result.append(Claim(str(letter), rows["statement"].iloc[0], rows["estimand"].iloc[0], judged))
    return result


def _reason(text: str, conditions: list[str]) -> str:
    """The reason for a verdict, its conditions, kernels and numbers written as everywhere on the page."""
    names = "|".join(map(re.escape, sorted(conditions, key=len, reverse=True)))
    text = re.sub(rf"(?<=of )({names})(?= )", lambda found: told(found[0]), text)
    text = re.sub(r"(: |, )(\w+)(?= [+-]\d)", lambda found: f"{found[1].replace(',', ';')}{kernel(found[2])}", text)
    return signs(text)


def facts(material: Material) -> dict[str, object]:
    return {
        "lead": lead(material),
        "controls": controls(material),
        "claims": claims(material),
        "level": material.level,
        "power": material.power,
    }


SECTION = Section("answer", "The answer", facts=facts)
