"""The rows of one parameter: each tensor is read once, for all its matrices."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra import compatible, decompose, measures
from diversity_spectra.spectra.decompose import Combination
from diversity_spectra.spectra.kind import Spectrum
from diversity_spectra.spectra.lora import LoraAdapter
from diversity_spectra.spectra.matrices import View
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.rows import identity, text
from diversity_spectra.spectra.tensors import Tensors, open_model

# A row, and the eigenvalues behind it where there are any.
Analysed = tuple[dict, np.ndarray | None]


@dataclass
class Reference:
    """The weights that a training started from. Leading singular vectors that were asked for are kept, by the matrix that
    they are of, so that analyses and references with equal matrices may share them."""

    tensors: Tensors
    _vectors: dict[tuple, tuple[np.ndarray, np.ndarray] | None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @classmethod
    def open(cls, path: Path, key: str | None = None) -> Reference:
        return cls(open_model(path, key=key))

    def top_vectors(self, matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Those of `matrix` (rows, columns), computed the first time only; None where it holds NaN."""
        key = blake2b(np.ascontiguousarray(matrix), digest_size=16).digest(), type(matrix), matrix.shape, k
        with self._lock:
            if key in self._vectors:
                return self._vectors[key]
        whole = Combination((1.0, matrix))
        vectors = decompose.top_vectors(whole, k) if np.isfinite(whole.gram).all() else None
        with self._lock:
            self._vectors[key] = vectors
        return vectors


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model.

    Attributes:
        counterpart: its name in the reference, or None where that has none.
    """

    tensors: Tensors
    name: str
    reference: Reference | None
    counterpart: str | None
    options: Options
    kappa: float | None
    device: str

    def rows(self, views: list[View]) -> list[Analysed]:
        """Rows of all views and matrices; where the tensor cannot be read, rows that say why."""
        try:
            return self._rows(views)
        except UserError as problem:
            return [(self._identity(view, "W") | {"reason": str(problem)}, None) for view in views]

    def _rows(self, views: list[View]) -> list[Analysed]:
        adapter = self.tensors if isinstance(self.tensors, LoraAdapter) else None
        update = adapter.update(self.name) if adapter else None
        if adapter and adapter.only_update(self.name):
            return [self._row(view, "dW", [(1.0, update)]) for view in views]
        weights = self.tensors.read(self.name)
        pretrained, problem = self._pretrained()
        difference = [(1.0, weights), (-1.0, pretrained)] if update is None else [(1.0, update)]
        result = []
        for view in views:
            result.append(self._row(view, "W", [(1.0, weights)], pretrained))
            if pretrained is not None:
                result.append(self._row(view, "dW", difference))
                if self.kappa not in (None, 1):
                    result.append(self._row(view, "dW_corrected", [(1.0, weights), (-self.kappa, pretrained)]))
            elif problem:
                result.append((self._identity(view, "dW") | {"reason": problem}, None))
        return result

    def _pretrained(self) -> tuple[np.ndarray | None, str]:
        """The reference's weights, or why there are none."""
        if self.reference is None:
            return None, ""
        if self.counterpart is None:
            return None, "not in the reference"
        ours, theirs = self.tensors.entries[self.name], self.reference.tensors.entries[self.counterpart]
        if ours.shape != theirs.shape:
            return None, f"shape {text(ours.shape)}, in the reference {text(theirs.shape)}"
        if theirs.problem or not theirs.floating:
            return None, f"in the reference {theirs.problem or theirs.dtype + ' values'}"
        return self.reference.tensors.read(self.counterpart), ""

    def _identity(self, view: View, matrix: str) -> dict:
        return identity(view, matrix, self.tensors.entries[self.name], self.options)

    def _row(self, view: View, matrix: str, terms, pretrained=None) -> Analysed:
        row = self._identity(view, matrix)
        if isinstance(self.tensors, LoraAdapter):
            row["reason"] = self.tensors.note(self.name)
        cuts = [[(factor, part) for part in view.cut(array)] for factor, array in terms]
        parts = [Combination(*part) for part in zip(*cuts, strict=True)]
        dtype = self.tensors.entries[self.name].dtype
        to_the_last = dtype == "float64" or self.options.convention == "weightwatcher"
        try:
            spectra, method = decompose.eigenvalues(parts, self.device, to_the_last)
        except decompose.NoEigenvalues as problem:
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
            row |= measures.of_zeros(len(values))
        else:
            floor = _rounding_floor(terms, values[-1], view, dtype)
            if not to_the_last:
                floor = max(floor, decompose.GRAM_NOISE * values[-1])
            note = row.pop("reason", "")
            start = None
            if pretrained is not None and self.options.subspace:
                start = partial(self.reference.top_vectors, view.cut(pretrained)[0])
            row |= measures.strict_measures(Spectrum(values, parts, floor, self.options, names, start))
            row["reason"] = "; ".join(filter(None, (note, row["reason"])))
        return row, values


EPSILON = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}


def _rounding_floor(terms, largest: float, view: View, dtype: str) -> float:
    """Largest eigenvalue that rounding to the stored type can fake.

    Rounding leaves independent errors of standard deviation eps |w| / sqrt(12), whose matrix has a norm of about that
    times sqrt(N) + sqrt(M), |w| being the root mean square. It matters for differences of weights; products of factors
    were never stored rounded. Below N * eps of float64 nothing is resolved in any case.
    """
    stored = [array for _, array in terms if isinstance(array, np.ndarray)]
    power = sum(decompose.mean_square(array) for array in stored)
    rounding = EPSILON[dtype] ** 2 / 12 * power * (np.sqrt(view.N) + np.sqrt(view.M)) ** 2
    return max(rounding, (view.N * EPSILON["float64"]) ** 2 * largest)
