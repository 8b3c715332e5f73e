"""Reading and writing tidy tables by file name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diversity_spectra.errors import UserError
from diversity_spectra.files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

CSV_ROWS = 100_000
# Given by people: "nan" and "1" are text, and "0.10" is another layer than "0.1".
NAMES = ("experiment", "model", "condition", "training_set", "set", "label", "layer")


def check_name(path: Path) -> None:
    """Raises `UserError` unless the name says as what a table is written."""
    if path.suffix not in (".parquet", ".csv"):
        raise UserError(f"{path}: a table's name ends in .parquet or .csv")


def write_table(path: str | Path, frame: pd.DataFrame) -> None:
    """Write `frame` as Parquet or CSV, whichever the suffix of `path` names, atomically."""
    path = Path(path)
    check_name(path)
    with atomic_file(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False)


def write_both(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """Write `frame` as Parquet, and as CSV where it is small enough to be opened as such."""
    write_table(folder / f"{name}.parquet", frame)
    if len(frame) < CSV_ROWS:
        write_table(folder / f"{name}.csv", frame)
    else:
        (folder / f"{name}.csv").unlink(missing_ok=True)


def read_table(path: str | Path) -> pd.DataFrame:
    import pandas as pd

    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such table")
    if path.suffix != ".csv":
        return pd.read_parquet(path)
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=[""])
