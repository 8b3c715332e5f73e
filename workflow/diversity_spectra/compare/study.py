"""The whole comparison: tables in, tables out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from diversity_spectra.compare import claims
from diversity_spectra.compare.alignment import alignment_table
from diversity_spectra.compare.benefits import benefits, benefits_by_run
from diversity_spectra.compare.beyond import beyond_table
from diversity_spectra.compare.controls import measured
from diversity_spectra.compare.features import STANDS_FOR, Features, collect, copies, of_kind, select, without
from diversity_spectra.compare.halves import halves
from diversity_spectra.compare.layer_tables import layer_tables
from diversity_spectra.compare.metric import alpha_by_run, metric_table, weighted_vendi
from diversity_spectra.compare.noise import fit
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.relation import relation_table
from diversity_spectra.compare.robustness import robustness_table
from diversity_spectra.compare.shift import shift_table
from diversity_spectra.compare.validation import validation_table
from diversity_spectra.errors import UserError

INPUTS = {
    "runs": ["model", "condition", "seed", "kappa"],
    "conditions": ["model", "condition", "family", "kind", "strength", "training_set"],
    "diversity": ["training_set", "kernel", "order", "label", "score", "low", "high"],
    "evaluation": ["model", "condition", "seed", "set", "shift", "accuracy", "ece"],
    "spectra": ["model", "condition", "seed", "layer", "depth", "matrix"],
}
OUTPUTS = ("shift", "controls", "alignment", "beyond", "metric", "relation", "validation", "claims", "robustness")


def compare(tables: dict[str, pd.DataFrame], options: Options) -> dict[str, pd.DataFrame]:
    """Compare every condition of every model with the controls.

    tables: those of INPUTS, with at least the columns named there; `spectra` also with columns of measures. Returns the
    tables of OUTPUTS, each starting with `model`; one without rows has that column alone. Raises `UserError` for a
    missing table or column, or a model without a baseline.
    """
    _check(tables)
    # In CSV an empty text reads as a missing number.
    tables = {**tables, "conditions": tables["conditions"].astype({"kind": object}).fillna({"kind": ""})}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in OUTPUTS}
    spectra = [tables["spectra"].iloc[:0]]
    for model in sorted(tables["conditions"]["model"].unique()):
        own = {name: frame[frame["model"] == model] if "model" in frame else frame for name, frame in tables.items()}
        twice = copies(own["spectra"])
        own = {name: without(frame, twice) for name, frame in own.items()}
        spectra.append(own["spectra"])
        for name, frame in _one_model(model, own, twice, options).items():
            frame.insert(0, "model", model)
            parts[name].append(frame)
    layers = layer_tables(pd.concat(spectra), tables["conditions"], options)
    return {name: _together(found) for name, found in parts.items()} | layers


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all networks; a table without rows still has its columns."""
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame({"model": pd.Series(dtype=str)})


def _one_model(
    model: str, tables: dict[str, pd.DataFrame], twice: pd.DataFrame, options: Options
) -> dict[str, pd.DataFrame]:
    """twice: runs that are copies of others, and not in the tables any more."""
    features = collect(tables["spectra"], tables["runs"], tables["conditions"])
    mask, keep, note = select(features, options.measures, options.matrix)
    _check_matrix(model, features, options)
    if len(twice):
        names = ", ".join(f"{condition}, seed {seed}" for condition, seed in twice.itertuples(index=False))
        note = "; ".join(filter(None, [note, f"counted once, being copies of other runs: {names}"]))
    rows = ("vectors", "correction", "group", "seed")
    features = replace(features, **{name: getattr(features, name)[keep] for name in rows})
    features = _drop_empty(features)
    if not len(features.conditions) or features.conditions["family"].iloc[0] != "baseline":
        raise UserError(f"model {model}: no spectra of a condition of the family baseline")
    blocks = pd.factorize(features.names["matrix"] + "/" + features.names["measure"])[0]
    noise_all = fit(features.vectors, features.group, blocks)
    result = {"shift": shift_table(features, noise_all, options)}
    # A measure that never varies from run to run has no noise to be compared with.
    used = np.flatnonzero(mask)[np.isfinite(fit(features.vectors[:, mask], features.group, blocks[mask]).sd)]
    if len(used) < mask.sum():
        idle = f"{mask.sum() - len(used)} features left out: equal in all runs of a condition"
        note = "; ".join(filter(None, [note, idle]))
    conditions = features.conditions
    gains = benefits(tables["evaluation"], list(conditions["condition"]))
    shift, moving = None, {}
    if len(used) and len(conditions) > 1:
        standard, shift, result["controls"], moving = measured(
            features.vectors[:, used], features.group, features.seed, conditions, blocks[used], options
        )
        result["beyond"] = beyond_table(shift, conditions.iloc[1:], options)
        result["alignment"] = alignment_table(standard, features.group, conditions.iloc[1:], shift, options)
        alpha = alpha_by_run(tables["spectra"])
        result["metric"] = metric_table(features, shift, gains, tables["diversity"], alpha, options)
        plain = conditions["training_set"].iloc[0]
        weighted = weighted_vendi(tables.get("quality"), conditions["training_set"].iloc[1:], plain)
        result["metric"][list(weighted)] = weighted.to_numpy()
        result["relation"] = relation_table(result["metric"], tables["runs"], plain, options)
        scores = benefits_by_run(tables["evaluation"])
        parts = halves(result["metric"], features, standard, scores, alpha, options)
        result["validation"] = validation_table(result["metric"], parts, plain, options)
        for name in ("controls", "alignment", "beyond", "metric"):
            result[name]["note"] = note
    controls = result.get("controls", pd.DataFrame())
    left_out = frozenset(tables["conditions"]["family"]) - frozenset(conditions["family"])
    evidence = claims.Evidence(
        conditions, shift, controls, moving, gains, tables["diversity"], options, left_out=left_out
    )
    result["claims"] = claims.claims_table(evidence)
    if shift is not None and options.robustness:
        result["robustness"] = robustness_table(features, used, blocks, evidence, options)
    return result


def _check_matrix(model: str, features: Features, options: Options) -> None:
    """Raises `UserError` where the matrix that the vectors are to be made of was not analysed, but the other was."""
    known = {
        name: np.isfinite(features.vectors[:, of_kind(features.names, options.measures, name)]).any()
        for name in STANDS_FOR
    }
    if not known[options.matrix] and any(known.values()):
        raise UserError(
            f"model {model}: no measures of {options.matrix} (dW: weights minus those that training started from); set matrix"
            f" (compare.matrix) to {next(name for name in known if known[name])}"
        )


def _drop_empty(features: Features) -> Features:
    """Without the conditions that have no run left."""
    present = np.unique(features.group)
    conditions = features.conditions.iloc[present].reset_index(drop=True)
    return replace(features, group=np.searchsorted(present, features.group), conditions=conditions)


def _check(tables: dict[str, pd.DataFrame]) -> None:
    for name, columns in INPUTS.items():
        if name not in tables:
            raise UserError(f"table {name}: missing")
        lacking = [column for column in columns if column not in tables[name]]
        if lacking:
            raise UserError(f"table {name}: no column {', '.join(lacking)}")
