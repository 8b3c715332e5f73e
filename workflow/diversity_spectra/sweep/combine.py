"""The tables of several experiments as one, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from diversity_spectra.compare.benefits import BENEFITS, benefits
from diversity_spectra.errors import UserError
from diversity_spectra.report.load import tables_in
from diversity_spectra.report.material import COMPARABLE, Material
from diversity_spectra.report.style import Palette
from diversity_spectra.sweep import COMBINED
from diversity_spectra.sweep.job import Told

NEEDED = ("runs", "conditions", "claims")


@dataclass(frozen=True)
class Part:
    """One experiment. link: from the page to its own report."""

    told: Told
    material: Material
    link: str = ""

    @property
    def name(self) -> str:
        return self.told.experiment


def read(told: Told, folder: Path, palette: Palette, link: str) -> Part:
    """The tables of one experiment. Raises `UserError` where they are missing, or already those of a sweep."""
    tables = tables_in(folder, COMBINED, NEEDED)
    if "experiment" in tables["runs"]:
        raise UserError(f"{folder}: these are tables of a sweep; name those of its experiments")
    config = {"compare": {"level": told.level}} if told.level is not None else {}
    return Part(told, Material(tables, config, palette=palette), link)


def combined(parts: list[Part]) -> dict[str, pd.DataFrame]:
    """The tables of all experiments, each with a leading column `experiment`; empty where no experiment has one."""
    found = {name: {part.name: part.material.table(name) for part in parts} for name in COMBINED}
    found["gains"] = {part.name: gains(part.material) for part in parts}
    return {name: _joined(frames) for name, frames in found.items()}


def gains(material: Material) -> pd.DataFrame:
    """Mean gain over the baseline of each family's conditions, with interval: one row per model, family and benefit.

    Gains and their intervals are those of stage compare: each condition has its own variance between runs. n: runs
    behind a gain, the baseline's included.
    """
    rows = []
    for model in material.models:
        conditions, evaluation = material.conditions(model), material.table("evaluation", model)
        if evaluation.empty or "baseline" not in set(conditions["family"]):
            continue
        names = list(conditions["condition"])  # the baseline first
        gained = benefits(evaluation, names)
        for family in COMPARABLE:
            members = list(conditions.loc[conditions["family"] == family, "condition"])
            weights = {**dict.fromkeys(members, 1 / max(len(members), 1)), names[0]: -1.0}
            for benefit in BENEFITS if members else ():
                gain, low, high = gained.contrast(weights, benefit, material.level)
                row = {"model": model, "family": family, "conditions": len(members), "benefit": benefit}
                rows.append({**row, "gain": gain, "low": low, "high": high, "n": gained.runs(weights, benefit)})
    return pd.DataFrame(rows)


def shared_runs(runs: pd.DataFrame) -> dict[str, int]:
    """By experiment: runs that another experiment has too, which are the same files and no evidence of their own."""
    if "folder" not in runs:
        return {}
    owners = runs.groupby("folder")["experiment"].transform("nunique")
    return runs[owners > 1].groupby("experiment").size().to_dict()


def _joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    labelled = [
        frame.assign(experiment=name)[["experiment", *frame.columns]] for name, frame in frames.items() if len(frame)
    ]
    return pd.concat(labelled, ignore_index=True) if labelled else pd.DataFrame({"experiment": pd.Series(dtype=str)})
