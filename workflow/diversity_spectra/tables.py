"""Reading and writing tidy tables by file name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diversity_spectra.errors import UserError
from diversity_spectra.files import atomic_file

if TYPE_CHECKING:
    import pandas as pd

CSV_ROWS = 100_000
NAMES = ("experiment", "model", "condition", "training_set", "set", "label")  # given by people: "nan" and "1" are text


def write_table(path: str | Path, frame: pd.DataFrame) -> None:
    """Write `frame` as Parquet or CSV, whichever the suffix of `path` names, atomically."""
    path = Path(path)
    with atomic_file(path) as temporary:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        elif path.suffix == ".csv":
            frame.to_csv(temporary, index=False)
        else:
            raise UserError(f"{path}: a table's name ends in .parquet or .csv")


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
