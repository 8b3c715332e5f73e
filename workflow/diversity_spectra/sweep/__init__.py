"""Stage `sweep`: the experiments of a sweep side by side.

Only names live here, so that planning can list the tables without reading any.
"""

from __future__ import annotations

from diversity_spectra import compare

# Tables with a row per layer are large: they are read where they lie.
COMBINED = tuple(name for name in compare.TABLES if name not in ("spectra", "shift"))
TABLES = (*COMBINED, "gains")
