"""Command `compare`: tables of runs, evaluations, diversity and spectra in, tables of comparisons out."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from diversity_spectra.compare import TABLES
from diversity_spectra.compare.job import OPTIONS, CompareConditions
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, publish, read_job, restored
from diversity_spectra.files import write_json
from diversity_spectra.jobs import RECORD
from diversity_spectra.tables import read_table, write_both

if TYPE_CHECKING:
    import pandas as pd

    from diversity_spectra.compare.options import Options

NUMBERS = ("strength", "dropout", "weight_decay", "synthetic")  # of a condition; of a checkpoint none is known

EXAMPLE = """example:
  diversity-spectra compare --inputs results/digits/tables --out results/digits/tables --options '{"bootstrap": 2000}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add_job(parser, alone=False)
    parser.add_argument(
        "--inputs",
        type=Path,
        help="folder with the tables runs, conditions, diversity, evaluation and spectra (.parquet or .csv)",
    )
    parser.add_argument("--out", type=Path, help="folder for all tables: those read, and shift, controls, ..., claims")
    parser.add_argument("--options", default="{}", help="settings as JSON; those left out keep their defaults")


def run(arguments: argparse.Namespace) -> None:
    from diversity_spectra.compare.study import INPUTS, compare

    if arguments.job:
        return _run_job(arguments)
    if not arguments.inputs or not arguments.out:
        raise UserError("name the folder with the tables (--inputs) and the one to write to (--out); see --help")
    options = read_options(arguments.options)
    tables = {name: read_table(_find(arguments.inputs, name)) for name in INPUTS}
    if _find(arguments.inputs, "quality").exists():
        tables["quality"] = read_table(_find(arguments.inputs, "quality"))
    inputs = {} if arguments.out.resolve() == arguments.inputs.resolve() else tables
    write_tables(arguments.out, {**inputs, **compare(tables, options)}, options)


def read_options(text: str) -> Options:
    """Settings of the comparison from JSON. Raises `UserError` where it is none."""
    from diversity_spectra.compare.options import Options

    try:
        return Options.from_json(json.loads(text))
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"--options: not a JSON object of settings: {error}") from error


def write_tables(folder: Path, tables: dict[str, pd.DataFrame], options: Options) -> None:
    """Tables that no job makes, and beside them the settings of their comparison, for `compared_with`.

    The record of a job's tables that lay in the folder goes: they are not there any more.
    """
    (folder / RECORD).unlink(missing_ok=True)
    for name, table in tables.items():
        write_both(folder, name, table)
    write_json(folder / OPTIONS, asdict(options))


def _run_job(arguments: argparse.Namespace) -> None:
    """Gathered tables in, all tables of the experiment out."""
    import pandas as pd

    from diversity_spectra.compare.options import Options
    from diversity_spectra.compare.study import compare

    job = read_job(arguments, CompareConditions)
    if restored(job):
        return
    with publish(job) as result:
        tables = {
            name: pd.concat([pd.read_parquet(Path(part) / f"{name}.parquet") for part in job.runs], ignore_index=True)
            for name in ("runs", "evaluation", "spectra")
        }
        conditions = [condition.model_dump() for condition in job.conditions]
        tables["conditions"] = pd.DataFrame(conditions).astype(dict.fromkeys(NUMBERS, float))
        for name, file in (("diversity", "scores"), ("quality", "quality")):
            parts = [
                pd.read_parquet(Path(folder) / f"{file}.parquet").assign(training_set=key)
                for key, folder in sorted(job.diversity.items())
            ]
            tables[name] = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        tables.update(compare(tables, Options(**job.compare.model_dump(), seed=job.seed)))
        for name in TABLES:
            write_both(result.folder, name, tables[name])


def _find(folder: Path, name: str) -> Path:
    path = folder / f"{name}.parquet"
    return path if path.exists() else path.with_suffix(".csv")
