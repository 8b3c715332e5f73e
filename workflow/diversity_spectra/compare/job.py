"""The comparison as a job of the workflow: gathered tables in, all tables of the experiment out."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from diversity_spectra.execution import check_input, read_job, record
from diversity_spectra.files import write_json
from diversity_spectra.tables import write_both

NUMBERS = ("strength", "dropout", "weight_decay", "synthetic")  # of a condition; of a checkpoint none is known


def run_job(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from diversity_spectra.compare import TABLES
    from diversity_spectra.compare.options import Options
    from diversity_spectra.compare.study import compare

    started = datetime.now(UTC)
    job = read_job(arguments.job)
    settings = dict(job["settings"])
    conditions, diversity = settings.pop("conditions"), settings.pop("diversity")
    for folder in diversity.values():
        check_input(folder)
    tables = {
        name: pd.concat(
            [pd.read_parquet(Path(part) / f"{name}.parquet") for part in job["inputs"]["runs"]], ignore_index=True
        )
        for name in ("runs", "evaluation", "spectra")
    }
    tables["conditions"] = pd.DataFrame(conditions).astype(dict.fromkeys(NUMBERS, float))
    for name, file in (("diversity", "scores"), ("quality", "quality")):
        parts = [
            pd.read_parquet(Path(folder) / f"{file}.parquet").assign(training_set=key)
            for key, folder in diversity.items()
        ]
        tables[name] = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    tables.update(compare(tables, Options.from_json(settings)))
    out = Path(job["out"])
    for name in TABLES:
        write_both(out, name, tables[name])
    write_json(out / "spec.json", record(job, out, started))
