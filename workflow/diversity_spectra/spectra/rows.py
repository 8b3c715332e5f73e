"""The table of spectra: what every row says of its matrix, and the types of the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra.column import expand
from diversity_spectra.spectra import compatible
from diversity_spectra.spectra.kinds import MEASURES
from diversity_spectra.spectra.matrices import View
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.safetensors_file import Entry

if TYPE_CHECKING:
    import pandas as pd

EXPANDED = {
    full: one for name, one in {**MEASURES, **compatible.COLUMNS}.items() for full in expand(name)
}  # measures by the names of their columns
# Present also where no matrix of the model has them.
ALWAYS = (
    "N",
    "M",
    "Q",
    "rf",
    "num_matrices",
    "num_evals",
    "method",
    *(n for n, one in EXPANDED.items() if not one.when),
)
BOOLEANS = {name for name, one in EXPANDED.items() if one.unit == "true or false"}
INTEGERS = {"N", "M", "rf", "groups", "num_matrices", "num_evals"}
INTEGERS |= {name for name, one in EXPANDED.items() if one.unit == "count"}


def identity(view: View, matrix: str, entry: Entry, options: Options) -> dict:
    """Columns that say which matrix a row is about."""
    row = {
        "layer": view.layer,
        "matrix": matrix,
        "convention": options.convention,
        "parameter": view.parameter,
        "shape": text(entry.shape),
        "dtype": entry.dtype,
        "view": view.view,
    }
    if view.reason:
        return row | {"reason": view.reason}
    sides = {"N": view.N, "M": view.M, "Q": view.N / view.M, "rf": view.rf, "num_matrices": view.count}
    if options.convention == "strict":
        sides |= {"groups": view.groups, "groups_source": view.source}
    return row | sides


def text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def frame(rows: list[dict]) -> pd.DataFrame:
    import pandas as pd

    from diversity_spectra import __version__

    table = pd.DataFrame(rows).drop(columns="reason", errors="ignore")
    missing = [column for column in ALWAYS if column not in table]
    table = table.assign(**dict.fromkeys(missing, np.nan))
    table.insert(7, "analysed", table["num_evals"].notna())
    # Counts stay whole numbers where a row has none: pandas' nullable integers, not floats.
    for column in INTEGERS & set(table.columns):
        table[column] = table[column].astype("Int64")
    for column in BOOLEANS & set(table.columns):
        table[column] = table[column].astype("boolean")
    versions = f"diversity-spectra {__version__}, numpy {np.__version__}"
    return table.assign(reason=[row.get("reason", "") for row in rows], versions=versions)
