"""Command `compare`: tables of runs, evaluations, diversity and spectra in, tables of comparisons out."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job
from diversity_spectra.tables import read_table, write_both

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
    parser.add_argument("--out", type=Path, help="folder for the tables shift, controls, ..., claims")
    parser.add_argument("--options", default="{}", help="settings as JSON; those left out keep their defaults")


def run(arguments: argparse.Namespace) -> None:
    from diversity_spectra.compare.options import Options
    from diversity_spectra.compare.study import INPUTS, compare

    if arguments.job:
        from diversity_spectra.compare.job import run_job

        return run_job(arguments)
    if not arguments.inputs or not arguments.out:
        raise UserError("name the folder with the tables (--inputs) and the one to write to (--out); see --help")
    try:
        options = Options.from_json(json.loads(arguments.options))
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"--options: not a JSON object of settings: {error}") from error
    tables = {name: read_table(_find(arguments.inputs, name)) for name in INPUTS}
    for name, table in compare(tables, options).items():
        write_both(arguments.out, name, table)


def _find(folder: Path, name: str) -> Path:
    path = folder / f"{name}.parquet"
    return path if path.exists() else path.with_suffix(".csv")
