"""From the tidy table of spectra to one feature vector per run.

A feature is one measure of one matrix of one layer. Measures that are scales enter as log10. Known arithmetic of weight
decay is taken out here, once: decoupled decay multiplies W by kappa = prod(1 - lr * decay) whatever the data
(Loshchilov & Hutter, arXiv 1711.05101), so a measure that grows as |W|^p is lowered by p * log10(kappa).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from diversity_spectra.conditions import FAMILIES
from diversity_spectra.spectra.kinds import COMPARED, KINDS

MATRICES = ("W", "dW", "dW_corrected")
# What stands for the matrix that the vectors are made of. dW free of the mere shrinkage by decay is dW where nothing decayed.
STANDS_FOR = {"W": "W", "dW": "dW_corrected"}
KEYS = ["layer", "depth", "matrix", "measure"]


@dataclass(frozen=True)
class Features:
    """All runs of one model as vectors.

    vectors (runs, features): on the compared scale, decay arithmetic taken out. correction (runs, features): what was
    added to do so. group (runs,): index of the run's condition. seed (runs,): the run's; of a run of no steps, which was not
    trained here, a number of its own below 0. conditions: one row per condition, the baseline first. names: one row per
    feature with layer, depth, matrix, measure.
    """

    vectors: np.ndarray
    correction: np.ndarray
    group: np.ndarray
    seed: np.ndarray
    conditions: pd.DataFrame
    names: pd.DataFrame


def collect(spectra: pd.DataFrame, runs: pd.DataFrame, conditions: pd.DataFrame) -> Features:
    """Features of one model (tables already cut to it), in an order that depends on the values alone.

    Conditions are ordered by family, kind, strength and then content, runs within a condition by content: so no random
    draw depends on names, seeds or the order of rows. Several rows of one run, layer and matrix are averaged.
    """
    measures = [name for name in COMPARED if name in spectra.columns]
    spectra = without_failed_fits(spectra)
    if "kappa" not in spectra:  # of every layer: then that of the run
        spectra = spectra.merge(runs[["condition", "seed", "kappa"]], "left", ["condition", "seed"]).fillna(
            {"kappa": 1.0}
        )
    spectra = spectra[spectra["matrix"].isin(MATRICES) & spectra["condition"].isin(conditions["condition"])]
    run_of_row, run_keys = pd.factorize(pd.MultiIndex.from_frame(spectra[["condition", "seed"]]))
    matrices = spectra[["depth", "layer"]].drop_duplicates().sort_values(["depth", "layer"], ignore_index=True)
    place = {key: index for index, key in enumerate(zip(matrices["depth"], matrices["layer"], strict=True))}
    layer_of_row = np.array([place[key] for key in zip(spectra["depth"], spectra["layer"], strict=True)], dtype=int)
    matrix_of_row = spectra["matrix"].map(MATRICES.index).to_numpy(dtype=int)

    shape = (len(run_keys), len(matrices), len(MATRICES), len(measures))
    total, count = np.zeros(shape), np.zeros(shape)
    rows = spectra[measures].to_numpy(dtype=float)
    finite = np.isfinite(rows)
    cell = (run_of_row, layer_of_row, matrix_of_row)
    np.add.at(total, cell, np.where(finite, rows, 0.0))
    np.add.at(count, cell, finite)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(count > 0, total / count, np.nan)
        for index, name in enumerate(measures):
            if COMPARED[name].log:
                values[..., index] = np.where(values[..., index] > 0, np.log10(values[..., index]), np.nan)
    log_kappa = np.zeros(shape[:2])  # of every run and layer
    log_kappa[run_of_row, layer_of_row] = np.log10(spectra["kappa"])
    # Where nothing decayed, W - kappa * W_pretrained is W - W_pretrained.
    same = (log_kappa == 0)[:, :, None] & ~np.isfinite(values[:, :, 2])
    values[:, :, 2] = np.where(same, values[:, :, 1], values[:, :, 2])
    for index, name in enumerate(measures):
        if COMPARED[name].holds in spectra:
            values[:, ~_held(spectra[COMPARED[name].holds], cell, log_kappa == 0), index] = np.nan
    correction = _correction(values, measures, log_kappa)
    names = pd.DataFrame(
        [
            {"layer": layer, "depth": depth, "matrix": matrix, "measure": measure}
            for depth, layer in matrices.itertuples(index=False)
            for matrix in MATRICES
            for measure in measures
        ],
        columns=KEYS,
    )
    flat = (len(run_keys), len(names))
    values, correction = (values + correction).reshape(flat), correction.reshape(flat)
    return _canonical(values, correction, _with_own_seeds(run_keys, runs), conditions, names)


def _with_own_seeds(run_keys: pd.MultiIndex, runs: pd.DataFrame) -> list[tuple[str, int]]:
    """Condition and seed of every run; the seed 0 of a checkpoint is no seed that it shares with a training."""
    untrained = runs[runs["steps"] == 0] if "steps" in runs else runs[:0]
    untrained = set(untrained[["condition", "seed"]].itertuples(index=False, name=None))
    return [(key[0], -1 - place if key in untrained else key[1]) for place, key in enumerate(run_keys)]


def _held(holds: pd.Series, cell: tuple[np.ndarray, ...], same: np.ndarray) -> np.ndarray:
    """Whether the rows of a layer and matrix hold in all runs (layers, matrices).

    cell: run, layer and matrix of each row. same (runs, layers): where dW stands for the corrected one, too.
    """
    held = np.ones([int(index.max(initial=-1)) + 1 for index in cell[:2]] + [len(MATRICES)], dtype=bool)
    np.logical_and.at(held, cell, holds.fillna(False).to_numpy(dtype=bool))
    held[:, :, 2] &= held[:, :, 1] | ~same
    return held.all(axis=0)


def without_failed_fits(spectra: pd.DataFrame) -> pd.DataFrame:
    """NaN for what follows from a failed fit: the convention weightwatcher writes -1, which is no measurement."""
    spectra = spectra.copy()
    for kind in KINDS:
        column, mark = kind.failed or ("", None)
        if column in spectra:
            own = [name for name, measure in kind.measures.items() if measure.label and name in spectra]
            failed = (spectra[column] == mark).to_numpy()[:, None]
            spectra[own] = np.where(failed, np.nan, spectra[own].to_numpy(dtype=float))
    return spectra


def copies(spectra: pd.DataFrame) -> pd.DataFrame:
    """Runs (condition, seed) of one model whose every number is that of another run of their condition.

    Seeds differ in all digits, so such a run is the same files under another name; counted twice, it would make the noise
    look smaller than it is.
    """
    columns = [name for name in (*KEYS, *COMPARED) if name in spectra.columns]
    finite = np.isfinite(spectra[columns].select_dtypes("number")).any(axis=1)
    content = pd.util.hash_pandas_object(spectra[columns], index=False).where(finite, 0)
    runs = content.groupby([spectra["condition"], spectra["seed"]]).sum().reset_index(name="content")
    runs = runs[runs["content"] != 0].sort_values("seed")
    return runs.loc[runs.duplicated(["condition", "content"]), ["condition", "seed"]]


def without(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of other runs (condition, seed) than these; all of a table that has no runs."""
    if not len(runs) or "seed" not in frame:
        return frame
    keys = ["condition", "seed"]
    return frame[~pd.MultiIndex.from_frame(frame[keys]).isin(pd.MultiIndex.from_frame(runs[keys]))]


def select(features: Features, measures: tuple[str, ...], matrix: str) -> tuple[np.ndarray, np.ndarray, str]:
    """The features that make up the aligned vectors: (feature mask, run mask, what was left out and why).

    matrix: a key of STANDS_FOR; the vectors are of one kind of matrix, never of two. A run that lacks more than half of
    what others have is left out; then every feature that a remaining run lacks or that never varies.
    """
    mask = of_kind(features.names, measures, matrix)
    finite = np.isfinite(features.vectors)
    mask = mask & finite.any(axis=0)
    usual = mask & (finite.mean(axis=0) > 0.5)
    keep = finite[:, usual].mean(axis=1) > 0.5 if usual.any() else np.ones(len(finite), dtype=bool)
    complete = usual & finite[keep].all(axis=0)
    kept = features.vectors[keep]
    if len(kept):
        complete &= np.ptp(np.where(np.isfinite(kept), kept, 0.0), axis=0) > 1e-12
    notes = []
    if not keep.all():
        notes.append(f"{int((~keep).sum())} of {len(keep)} runs left out: too few measures could be computed")
    if complete.sum() < mask.sum():
        notes.append(f"{int(mask.sum() - complete.sum())} of {int(mask.sum())} features left out: missing or constant")
    return complete, keep, "; ".join(notes)


def of_kind(names: pd.DataFrame, measures: tuple[str, ...], matrix: str) -> np.ndarray:
    """Which features (features,) are one of these measures of that matrix."""
    return (names["measure"].isin(measures) & (names["matrix"] == STANDS_FOR[matrix])).to_numpy()


def _correction(values: np.ndarray, measures: list[str], log_kappa: np.ndarray) -> np.ndarray:
    """-power * log10(kappa) for `W`; the same shape as values (runs, layers, matrices, measures)."""
    correction = np.zeros_like(values)
    for index, name in enumerate(measures):
        scale = COMPARED[name].scale
        power = 2 * values[:, :, 0, measures.index("alpha")] if scale == "alpha" else scale
        correction[:, :, 0, index] = -power * log_kappa
    return np.where(np.isfinite(correction), correction, 0.0)


def _canonical(
    values: np.ndarray,
    correction: np.ndarray,
    run_keys: list[tuple[str, int]],
    conditions: pd.DataFrame,
    names: pd.DataFrame,
) -> Features:
    content = [tuple(row) for row in np.where(np.isfinite(values), values, -np.inf)]
    members: dict[str, list[int]] = {}
    for run, (condition, _) in enumerate(run_keys):
        members.setdefault(condition, []).append(run)
    members = {name: sorted(indices, key=content.__getitem__) for name, indices in members.items()}

    def rank(row) -> tuple:
        strength = row.strength if np.isfinite(row.strength) else np.inf
        return FAMILIES[row.family].rank, str(row.kind), strength, content[members[row.condition][0]]

    present = conditions[conditions["condition"].isin(members)]
    ordered = sorted(present.itertuples(index=False), key=rank)
    order = [run for row in ordered for run in members[row.condition]]
    group = np.repeat(np.arange(len(ordered)), [len(members[row.condition]) for row in ordered]).astype(int)
    table = pd.DataFrame(ordered, columns=present.columns)
    seed = np.array([run_keys[run][1] for run in order])
    return Features(values[order], correction[order], group, seed, table, names)
