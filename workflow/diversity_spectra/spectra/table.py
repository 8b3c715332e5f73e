"""The analysis of one model: one tidy row per layer and matrix, and the eigenvalues behind it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra import compatible, decompose, measures
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.matrices import View, plan
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.tensors import LoraAdapter, Tensors, open_model

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Result:
    """What `analyse` returns.

    Attributes:
        rows: one row per layer and matrix, columns as in docs/spectra.md.
        eigenvalues: `layer|matrix` -> (n,) float64, ascending.
    """

    rows: pd.DataFrame
    eigenvalues: dict[str, np.ndarray]


@dataclass
class Reference:
    """A pretrained model, opened once for several analyses; keeps the leading singular vectors it was asked for."""

    tensors: Tensors
    _vectors: dict[tuple, tuple[np.ndarray, np.ndarray] | None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def open(cls, path: Path) -> Reference:
        return cls(open_model(path))

    def top_vectors(self, key: tuple, matrix: Combination, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Those of `matrix`, computed the first time only; None where it holds NaN."""
        with self._lock:
            if (*key, k) in self._vectors:
                return self._vectors[(*key, k)]
        vectors = decompose.top_vectors(matrix, k) if np.isfinite(matrix.gram).all() else None
        with self._lock:
            self._vectors[(*key, k)] = vectors
        return vectors


def analyse(
    model: Path,
    reference: Path | Reference | None = None,
    options: Options | None = None,
    kappa: float | None = None,
    threads: int = 1,
    device: str = "cpu",
) -> Result:
    """Analyse every matrix of a model.

    Args:
        model: file or folder of weights (see `tensors.open_model`).
        reference: pretrained weights, paired with the model's by full parameter name and shape. Adds rows `dW`
            (weights minus pretrained weights) and the overlap of leading singular subspaces.
        kappa: product of (1 - learning rate * decay) over the training steps; where it is not 1, adds rows
            `dW_corrected` = W - kappa * W_pretrained, free of the mere shrinkage by decoupled weight decay.
        threads: matrices analysed at a time; the result does not depend on it.
        device: `cpu` or `cuda` (eigenvalues by torch).

    Raises:
        UserError: a file that cannot be read, or a pattern that matches nothing.
    """
    options = options or Options()
    if reference is not None and not isinstance(reference, Reference):
        reference = Reference.open(Path(reference))
    tensors = open_model(Path(model), reference.tensors if reference else None)
    if not tensors.entries:
        raise UserError(f"{model}: holds no tensors")
    views = _selected(
        plan(
            tensors.entries,
            options.convention,
            options.conv,
            options.pool,
            options.min_eigenvalues,
        ),
        options,
        model,
    )
    by_parameter: dict[str, list[View]] = {}
    for view in views:
        by_parameter.setdefault(view.parameter, []).append(view)

    def task(parameter: str) -> list[tuple[dict, np.ndarray | None]]:
        analysed = [view for view in by_parameter[parameter] if not view.reason]
        if not analysed:
            return []
        return _Parameter(tensors, parameter, reference, options, kappa, device).rows(analysed)

    if reference is not None and options.subspace:
        # SciPy brings its own BLAS, which can be held to one thread only once it is loaded.
        import_module("scipy.linalg")
    if threads > 1:
        # The one slow import goes on while LAPACK works; `_frame` needs it at the end.
        Thread(target=import_module, args=("pandas",)).start()
    # The largest first, so that no long task is left for the end.
    order = sorted(by_parameter, key=lambda name: -_cost(by_parameter[name]))
    with decompose.one_blas_thread():
        if threads == 1:
            done = dict(zip(order, map(task, order), strict=True))
        else:
            with ThreadPoolExecutor(threads) as pool:
                done = dict(zip(order, pool.map(task, order), strict=True))
    rows, eigenvalues = [], {}
    for parameter, parts in by_parameter.items():
        rows += [_skipped(view, tensors, options) for view in parts if view.reason]
        for row, values in done[parameter]:
            rows.append(row)
            if values is not None:
                eigenvalues[f"{row['layer']}|{row['matrix']}"] = values
    return Result(_frame(rows), eigenvalues)


class _Parameter:
    """One parameter with its reference: reads each tensor once, and gives the rows of all its views and matrices."""

    def __init__(self, tensors, parameter, reference, options: Options, kappa, device):
        self.tensors, self.parameter, self.reference = tensors, parameter, reference
        self.options, self.kappa, self.device = options, kappa, device

    def rows(self, views: list[View]) -> list[tuple[dict, np.ndarray | None]]:
        entry = self.tensors.entries[self.parameter]
        if isinstance(self.tensors, LoraAdapter) and self.tensors.update_only:
            update = self.tensors.read(self.parameter)
            return [self._row(view, "dW", [(1.0, update)]) for view in views]
        weights = self.tensors.read(self.parameter)
        pretrained, problem = None, ""
        if self.reference is not None:
            other = self.reference.tensors.entries.get(self.parameter)
            if other is None:
                problem = "not in the reference"
            elif other.shape != entry.shape:
                problem = f"shape {_text(entry.shape)}, in the reference {_text(other.shape)}"
            else:
                pretrained = self.reference.tensors.read(self.parameter)
        result = []
        for view in views:
            result.append(self._row(view, "W", [(1.0, weights)], pretrained))
            if pretrained is not None:
                result.append(self._row(view, "dW", [(1.0, weights), (-1.0, pretrained)]))
                if self.kappa not in (None, 1):
                    terms = [(1.0, weights), (-self.kappa, pretrained)]
                    result.append(self._row(view, "dW_corrected", terms))
            elif problem:
                result.append((self._identity(view, "dW") | {"reason": problem}, None))
        return result

    def _identity(self, view: View, matrix: str) -> dict:
        entry = self.tensors.entries[self.parameter]
        return _identity(view, matrix, entry, self.options) | {
            "N": view.N,
            "M": view.M,
            "Q": view.N / view.M,
            "rf": view.rf,
            "num_matrices": view.count,
        }

    def _row(self, view: View, matrix: str, terms, pretrained=None) -> tuple[dict, np.ndarray | None]:
        row = self._identity(view, matrix)
        cuts = [[(factor, part) for part in view.cut(array)] for factor, array in terms]
        parts = [Combination(*part) for part in zip(*cuts, strict=True)]
        dtype = self.tensors.entries[self.parameter].dtype
        to_the_last = dtype == "float64" or self.options.convention == "weightwatcher"
        try:
            spectra, method = decompose.eigenvalues(parts, self.device, to_the_last)
        except decompose.NotFinite as problem:
            return row | {"reason": str(problem)}, None
        except np.linalg.LinAlgError as error:
            return row | {"reason": f"no decomposition: {error}"}, None
        spectra = [values * view.eigenvalue_factor for values in spectra]
        values = np.sort(np.concatenate(spectra))
        row |= {"num_evals": len(values), "method": method}
        names = (view.layer, matrix)
        if self.options.convention == "weightwatcher":
            row |= compatible.measures(values, spectra, parts, view, self.options, names)
        elif values[-1] == 0:
            row["reason"] = "all values are zero"
        else:
            floor = _rounding_floor(terms, values[-1], view, dtype)
            if not to_the_last:
                floor = max(floor, decompose.GRAM_NOISE * values[-1])
            row |= measures.strict_measures(values, parts, floor, self.options, names)
            if pretrained is not None and self.options.subspace and len(parts) == 1:
                row |= self._overlap(view, parts[0], Combination((1.0, view.cut(pretrained)[0])))
        return row, values

    def _overlap(self, view: View, matrix: Combination, pretrained: Combination) -> dict:
        """Mean squared cosine of the principal angles between leading singular subspaces, 0 to 1."""
        k = min(self.options.subspace, view.M // 2)
        theirs = self.reference.top_vectors((view.layer, view.view), pretrained, k)
        if theirs is None:
            return {}
        ours = decompose.top_vectors(matrix, k)
        long, short = (float(((a.T @ b) ** 2).sum() / k) for a, b in zip(ours, theirs, strict=True))
        return {"subspace_k": k, "subspace_overlap_long": long, "subspace_overlap_short": short}


EPSILON = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}


def _rounding_floor(terms, largest: float, view: View, dtype: str) -> float:
    """Largest eigenvalue that rounding to the stored type can fake.

    Rounding leaves independent errors of standard deviation eps |w| / sqrt(12), whose matrix has a norm of about that
    times sqrt(N) + sqrt(M), |w| being the root mean square. It matters for differences of weights. Below N * eps of
    float64 nothing is resolved in any case.
    """
    power = sum(decompose.mean_square(array) for _, array in terms)
    rounding = EPSILON[dtype] ** 2 / 12 * power * (np.sqrt(view.N) + np.sqrt(view.M)) ** 2
    return max(rounding, (view.N * EPSILON["float64"]) ** 2 * largest)


def _selected(views: list[View], options: Options, model: Path) -> list[View]:
    def wanted(name: str) -> bool:
        included = not options.include or any(fnmatchcase(name, pattern) for pattern in options.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in options.exclude)

    if options.include and not any(wanted(view.parameter) for view in views):
        raise UserError(f"{model}: no parameter matches {', '.join(options.include)}")
    return [
        view if view.reason or wanted(view.parameter) else View(view.layer, view.parameter, reason="not selected")
        for view in views
    ]


def _cost(views: list[View]) -> float:
    return sum(view.count * view.N * view.M**2 for view in views)


def _identity(view: View, matrix: str, entry, options: Options) -> dict:
    return {
        "layer": view.layer,
        "matrix": matrix,
        "convention": options.convention,
        "parameter": view.parameter,
        "shape": _text(entry.shape),
        "dtype": entry.dtype,
        "view": view.view,
    }


def _skipped(view: View, tensors: Tensors, options: Options) -> dict:
    return _identity(view, "W", tensors.entries[view.parameter], options) | {"reason": view.reason}


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _frame(rows: list[dict]) -> pd.DataFrame:
    import pandas as pd

    from diversity_spectra import __version__

    frame = pd.DataFrame(rows).drop(columns="reason", errors="ignore")
    # Present also where no matrix of the model has them.
    missing = [column for column in ALWAYS if column not in frame]
    frame = frame.assign(**dict.fromkeys(missing, np.nan))
    frame.insert(7, "analysed", frame["num_evals"].notna())
    # Counts stay whole numbers where a row has none: pandas' nullable integers, not floats.
    for column in INTEGERS & set(frame.columns):
        frame[column] = frame[column].astype("Int64")
    versions = f"diversity-spectra {__version__}, numpy {np.__version__}"
    for column in BOOLEANS & set(frame.columns):
        frame[column] = frame[column].astype("boolean")
    return frame.assign(reason=[row.get("reason", "") for row in rows], versions=versions)


ALWAYS = ("N", "M", "Q", "rf", "num_matrices", "num_evals", "method", "log_norm", "log_spectral_norm", "stable_rank")
ALWAYS += ("matrix_rank", "entropy", "alpha", "D", "xmin", "sigma", "num_pl_spikes", "alpha_weighted", "log_alpha_norm")
BOOLEANS = {"mp_holds", "rand_mp_holds"}
INTEGERS = {
    "N",
    "M",
    "rf",
    "num_matrices",
    "num_evals",
    "matrix_rank",
    "rank_loss",
    "weak_rank_loss",
    "num_pl_spikes",
    "num_spikes",
    "subspace_k",
    "rand_num_spikes",
    "num_traps",
    "detX_num",
    "num_ERG_spikes",
    "ERG_gap",
}
