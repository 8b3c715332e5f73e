"""Stage `compare`: shifts, alignments, equivalents and claims."""

TABLES = (
    "runs",
    "conditions",
    "diversity",
    "quality",
    "evaluation",
    "spectra",
    "shift",
    "controls",
    "alignment",
    "beyond",
    "metric",
    "relation",
    "validation",
    "claims",
    "robustness",
    "layer_shifts",
    "layer_tests",
)
