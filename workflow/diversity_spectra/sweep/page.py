"""The page of a sweep, in the words and the look of an experiment's report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from diversity_spectra import __version__
from diversity_spectra.generate.kinds import KINDS as GENERATORS
from diversity_spectra.report.material import CONTROLS
from diversity_spectra.report.page import environment
from diversity_spectra.report.section import Drawn
from diversity_spectra.report.sections import answer, run
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import NOTHING, counted, interval, listing, plain
from diversity_spectra.sweep.combine import Part, shared_runs
from diversity_spectra.sweep.figures import label

GAINS = {
    "id_accuracy": "accuracy, test set",
    "ood_accuracy": "accuracy, out of distribution",
    "calibration": "calibration, test set",
}


def render(
    parts: list[Part],
    tables: dict[str, pd.DataFrame],
    drawn: list[Drawn],
    name: str,
    packages: dict,
    version: str = __version__,
) -> str:
    """The whole page as text; equal arguments give equal text."""
    return (
        environment(Path(__file__).parent)
        .get_template("sweep.html.j2")
        .render(
            title=name,
            lead=lead(parts, tables),
            answers=[(part, answer.lead(part.material)) for part in parts],
            controls=controls(parts),
            levels=listing([f"{level:g}" for level in sorted({part.material.level for part in parts})], "or"),
            confidence=confidence(parts),
            claims=claims(parts),
            experiments=experiments(parts, tables),
            shared=bool(shared_runs(tables["runs"])),
            gains=gains(tables["gains"]),
            figures=drawn,
            version=version,
            packages=packages,
        )
    )


def confidence(parts: list[Part]) -> str:
    """How much intervals cover, as `95 %`; all of them where experiments differ."""
    return listing(list(dict.fromkeys(part.material.confidence for part in parts)), "or")


def lead(parts: list[Part], tables: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """First how often the controls were seen, then each claim with its verdicts counted over networks."""
    found = tables["controls"]
    whole = found[found["condition"] == ""] if "condition" in found else found.iloc[:0]
    seen = [
        f"{plain(family)} in {int(rows['detected'].sum())} of {counted([len(rows)], 'network')}"
        for family, rows in (whole.groupby("family") if len(whole) else ())
    ]
    none = "None could be tested." if tables["conditions"]["family"].isin(CONTROLS).any() else "None was run."
    lines = [("Could the regularisers be seen?", f"{_sentence(listing(seen))}." if seen else none)]
    judged = tables["claims"]
    for letter, rows in judged.groupby("claim", sort=True) if "claim" in judged else ():
        counts = answer.verdicts(rows).value_counts()
        told = listing([f"{verdict} in {counts[verdict]}" for verdict in answer.VERDICTS if verdict in counts])
        told = counts.index[0] if len(rows) == 1 else f"{told} of {len(rows)} networks"
        lines.append((f"({letter}) {rows['statement'].iloc[0]}", f"{_sentence(told)}."))
    return lines


def controls(parts: list[Part]) -> Table:
    """Families over all their strengths; single strengths stand in the reports of the experiments."""
    tables = {part.name: answer.controls(part.material, strengths=False) for part in parts}
    rows = [[name, *cells] for name, table in tables.items() for cells in table.rows]
    head = next((table.head for table in tables.values() if table), [])
    return Table(["experiment", *head], rows, 4)


def claims(parts: list[Part]) -> list[answer.Claim]:
    """Every claim with its verdict for each network of each experiment."""
    joined: dict[str, answer.Claim] = {}
    for part in parts:
        for claim in answer.claims(part.material):
            known = joined.setdefault(claim.letter, replace(claim, judged=[]))
            known.judged.extend(replace(row, model=label((part.name, row.model))) for row in claim.judged)
    return [joined[letter] for letter in sorted(joined)]


def experiments(parts: list[Part], tables: dict[str, pd.DataFrame]) -> Table:
    """One row per experiment, each with a link to its own report."""
    shared = shared_runs(tables["runs"])
    rows = []
    for part in parts:
        models = part.told.models
        link = Markup('<a href="{}">{}</a>').format(part.link, part.name)
        data = part.told.data
        rows.append(
            [
                link,
                run.DATA.get(data["kind"], data["kind"]).format(**data) if data else NOTHING,
                _per_class(data),
                _source(part.told.generator),
                "; ".join(_network(model, *models.get(model, ())) for model in part.material.models),
                str(len(part.material.table("conditions"))),
                str(len(part.material.table("runs"))),
                str(shared.get(part.name, 0)),
            ]
        )
    head = ["experiment", "data", "training images per class", "synthetic images", "networks"]
    return Table([*head, "conditions", "runs", "of them shared"], rows, 5)


def gains(table: pd.DataFrame) -> Table:
    """Mean gain of every family, one row per network and family."""
    if "benefit" not in table:
        return Table([], [])
    rows = []
    for (experiment, model, family), group in table.groupby(["experiment", "model", "family"], sort=False):
        known = group.set_index("benefit")
        cells = [interval(*known.loc[name, ["gain", "low", "high"]].astype(float), 3, sign=True) for name in GAINS]
        counts = [str(int(group[name].iloc[0])) for name in ("conditions", "n")]
        rows.append([str(experiment), str(model), plain(str(family)), *cells, *counts])
    return Table(["experiment", "network", "family", *GAINS.values(), "conditions", "runs"], rows, 3)


def _network(name: str, architecture: str = "", weights: str = "") -> str:
    if not architecture:
        return name
    return f"{name} ({architecture}, {'from scratch' if weights == 'none' else f'weights {weights}'})"


def _source(kind: str | None) -> str:
    """Where synthetic images come from; not known where the tables came alone."""
    return NOTHING if kind is None else GENERATORS[kind].short if kind else "none"


def _per_class(data: dict | None) -> str:
    number = (data or {}).get("train_per_class")
    return str(number) if number else "all" if data else NOTHING


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
