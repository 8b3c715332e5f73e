"""What is missing: matrices that were not analysed, and trainings that broke off."""

from __future__ import annotations

import re
from collections.abc import Iterable

from diversity_spectra.report.material import Material
from diversity_spectra.report.section import Section
from diversity_spectra.report.table import Table
from diversity_spectra.report.words import condition as told
from diversity_spectra.report.words import counted


def skipped(material: Material) -> Table:
    """Matrices that were not analysed, or not fully, with the reason."""
    table = material.table("spectra")
    if table.empty or "reason" not in table:
        return Table([], [])
    table = table[table["reason"].fillna("") != ""]
    rows = []
    for (model, _), group in table.groupby(["model", table["reason"].str.replace(r"\d+", "0", regex=True)], sort=False):
        names = list(dict.fromkeys(group["layer"]))
        told_names = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        runs = group.drop_duplicates(["condition", "seed"])
        matrices = ", ".join(dict.fromkeys(group["matrix"]))
        reason = _joined(group["reason"].unique())
        rows.append([model, reason, matrices, told_names, str(len(names)), str(len(runs))])
    return Table(["network", "reason", "matrices", "layers", "number of layers", "runs"], rows, 4)


def _joined(reasons: Iterable[str]) -> str:
    """Reasons that differ in their numbers alone as one: `32 to 480 matrices of 1 x 9`."""
    pieces = zip(*(re.split(r"(\d+)", reason) for reason in reasons), strict=True)
    return "".join(counted(list(map(int, piece)), "") if piece[0].isdigit() else piece[0] for piece in pieces)


def diverged(material: Material) -> list[str]:
    """Runs whose training broke off."""
    runs = material.table("runs")
    if "diverged" not in runs:
        return []
    broken = runs[runs["diverged"].fillna(False).astype(bool)]
    return [f"{row.model}, {told(row.condition)}, seed {row.seed}" for row in broken.itertuples()]


def facts(material: Material) -> dict[str, object]:
    says = "reason" in material.table("spectra")
    return {"skipped": skipped(material), "says": says, "diverged": diverged(material)}


SECTION = Section("gaps", "What is missing", facts=facts)
