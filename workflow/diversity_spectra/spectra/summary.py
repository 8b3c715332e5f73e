"""The table of spectra as text for a terminal: what to know of every layer, and of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diversity_spectra.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

REJECTED = 0.01  # goodness_p up to which a power law is refused, as in the column `warning`
COLUMNS = {"alpha": "alpha", "stable_rank": "stable rank", "entropy": "entropy", "num_spikes": "spikes"}


def summary(rows: pd.DataFrame, name: str) -> str:
    """One line per analysed matrix with its warning, then counts, the mean alpha, and what was left out and why."""
    table = rows[rows["analysed"]]
    shown = [column for column in COLUMNS if column in table]
    width = max([len(layer) for layer in table["layer"]] + [len("layer")])
    lines = [f"{'layer':<{width}}  matrix  {'size':>11}" + "".join(f"{COLUMNS[column]:>13}" for column in shown)]
    for row in table.to_dict("records"):
        size = f"{row['N']}x{row['M']}"
        cells = "".join(f"{_number(row[column]):>13}" for column in shown)
        warning = _text(row.get("warning")) or _text(row.get("reason"))
        line = f"{row['layer']:<{width}}  {row['matrix'].replace('dW_corrected', 'dW-c.'):<6}  {size:>11}{cells}"
        lines.append(f"{line}  {warning}".rstrip())
    return "\n".join([*lines, "", f"{name}: {_whole(rows)}"])


def _whole(rows: pd.DataFrame) -> str:
    table = rows[rows["analysed"]]
    parts = [f"{len(table)} matrices analysed"]
    weights = table.loc[table["matrix"] == "W", "alpha"].astype(float)
    weights = weights[weights > 0].dropna()
    if len(weights):
        parts.append(f"mean alpha of W {weights.mean():.2f} over {len(weights)}")
    if "goodness_p" in table and table["goodness_p"].notna().any():
        known = table["goodness_p"].dropna().astype(float)
        parts.append(f"power law rejected in {int((known <= REJECTED).sum())} of {len(known)} (p <= {REJECTED:g})")
    if "warning" in table and (warned := int(table["warning"].map(_text).ne("").sum())):
        parts.append(f"{warned} with a warning")
    if skipped := int((~rows["analysed"]).sum()):
        reasons = rows.loc[~rows["analysed"], "reason"].value_counts()
        told = ", ".join(f"{reason} ({count})" for reason, count in reasons.head(3).items())
        parts.append(f"{skipped} tensors left out: {told}")
    return "; ".join(parts)


def _number(value: object) -> str:
    if value is None or value != value or str(value) == "<NA>":
        return "-"
    return f"{int(value)}" if float(value).is_integer() else f"{float(value):.2f}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# What is compared between two models.
DIFFERENCES = ("alpha", "stable_rank", "entropy", "log_spectral_norm")


def difference(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Two models layer by layer, for the weights W.

    first: spectra of the one. second: those of the other, with the first as its reference. One row per layer that both have:
    each measure of either, and of their difference dW = W_second - W_first the relative Frobenius norm, the stable rank,
    and the overlap of the leading singular subspaces (1: the same). Raises `UserError` where they have no layer in common.
    """
    a, b = (
        table[table["analysed"] & (table["matrix"] == "W")].drop_duplicates("layer").set_index("layer")
        for table in (first, second)
    )
    layers = [layer for layer in b.index if layer in a.index]
    if not layers:
        raise UserError("the two models have no analysed layer in common")
    moved = second[second["analysed"] & (second["matrix"] == "dW")].drop_duplicates("layer").set_index("layer")
    table = b.loc[layers, ["N", "M"]].copy()
    for name in DIFFERENCES:
        table[f"{name}_a"], table[f"{name}_b"] = a.loc[layers, name].astype(float), b.loc[layers, name].astype(float)
    norms = moved["norm"].astype(float).reindex(layers) / a.loc[layers, "norm"].astype(float)
    table["relative_change"] = norms**0.5
    table["stable_rank_dW"] = moved["stable_rank"].astype(float).reindex(layers)
    overlap = b.get("subspace_overlap_short", norms * float("nan"))
    table["subspace_overlap"] = overlap.astype(float).reindex(layers)
    return table.reset_index()
