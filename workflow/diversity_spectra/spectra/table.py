"""The analysis of one model: one tidy row per layer and matrix, and the eigenvalues behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from diversity_spectra.errors import Busy, UserError
from diversity_spectra.spectra import decompose
from diversity_spectra.spectra.matrices import View, plan
from diversity_spectra.spectra.options import Options
from diversity_spectra.spectra.parameter import Analysed, Parameter, Reference
from diversity_spectra.spectra.rows import frame, identity
from diversity_spectra.spectra.tensors import Tensors, open_model

if TYPE_CHECKING:
    import pandas as pd

# What wrappers and heads put before the names of one and the same parameter.
PREFIX = re.compile(r"^((module|_orig_mod|model|base_model)\.)+")
NOT_REACHED = "stopped before it was analysed"


@dataclass
class Result:
    """What `analyse` returns.

    Attributes:
        rows: one row per layer and matrix, columns as in docs/spectra.md.
        eigenvalues: `layer|matrix` -> (n,) float64, ascending.
    """

    rows: pd.DataFrame
    eigenvalues: dict[str, np.ndarray]


class Stopped(Busy):
    """Ctrl-C; `result` holds what was done until then, with rows that say so for the rest."""

    def __init__(self, result: Result):
        self.result = result


def analyse(
    model: Path | Tensors,
    reference: Path | Reference | None = None,
    options: Options | None = None,
    kappa: float | Mapping[str, float] | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress: Callable[[float], None] | None = None,
) -> Result:
    """Analyse every matrix of a model.

    Args:
        model: file or folder of weights (see `tensors.open_model`), or tensors that are open already.
        reference: pretrained weights, paired with the model's by parameter name (less common prefixes) and shape. Adds
            rows `dW` (weights minus pretrained weights) and the overlap of leading singular subspaces.
        kappa: product of (1 - learning rate * decay) over the training steps; where it is not 1, adds rows
            `dW_corrected` = W - kappa * W_pretrained, free of the mere shrinkage by decoupled weight decay. Or that of every
            layer by its name, 1 for others.
        threads: matrices analysed at a time; the result does not depend on it.
        device: `cpu` or `cuda` (eigenvalues by torch).
        progress: called with the share of the work that is done, as parameters are finished.

    Raises:
        UserError: a file that cannot be read, a pattern that matches nothing, no thread, no GPU, or a reference of another
            model.
        Stopped: Ctrl-C; matrices that are being decomposed go on in the background.
    """
    options = options or Options()
    if threads < 1:
        raise UserError(f"threads is {threads}, allowed: 1 or more")
    decompose.check_device(device)
    if reference is not None and not isinstance(reference, Reference):
        reference = Reference.open(Path(reference))
    tensors, named = model, "the model"
    if isinstance(model, str | Path):
        tensors = open_model(Path(model), reference.tensors if reference else None, options.key)
        named = str(model)
    if not tensors.entries:
        raise UserError(f"{named}: holds no tensors")
    views = plan(
        tensors.entries, options.convention, options.conv, options.pool, options.min_eigenvalues, options.groups
    )
    views = _selected(views, options, named)
    by_parameter: dict[str, list[View]] = {}
    for view in views:
        by_parameter.setdefault(view.parameter, []).append(view)
    wanted = {name: [view for view in parts if not view.reason] for name, parts in by_parameter.items()}
    wanted = {name: parts for name, parts in wanted.items() if parts}
    counterparts = _paired(named, tensors, reference, list(wanted))

    def task(name: str) -> list[Analysed]:
        own = kappa.get(name.removesuffix(".weight"), 1.0) if isinstance(kappa, Mapping) else kappa
        parameter = Parameter(tensors, name, reference, counterparts.get(name), options, own, device)
        return parameter.rows(wanted[name])

    if options.convention == "strict" or (reference is not None and options.subspace):
        # SciPy brings its own BLAS, which can be held to one thread only once it is loaded.
        import_module("scipy.linalg")
    done: dict[str, list[Analysed]] = {}

    def result() -> Result:
        rows, eigenvalues = [], {}
        for name, parts in by_parameter.items():
            entry = tensors.entries[name]
            rows += [identity(view, "W", entry, options) for view in parts if view.reason]
            if name in wanted and name not in done:
                rows += [identity(view, "W", entry, options) | {"reason": NOT_REACHED} for view in wanted[name]]
            for row, values in done.get(name, []):
                rows.append(row)
                if values is not None:
                    eigenvalues[f"{row['layer']}|{row['matrix']}"] = values
        return Result(frame(rows), eigenvalues)

    costs = {name: sum(view.count * view.N * view.M**2 for view in parts) for name, parts in wanted.items()}
    with decompose.one_blas_thread():
        # The one slow import goes on while LAPACK works; `frame` needs it at the end. It starts in here: a library that is
        # loaded while the limit of threads looks through all that are there waits for it, and it for the library, for ever.
        Thread(target=import_module, args=("pandas",)).start()
        pool = ThreadPoolExecutor(threads)
        try:
            # The largest first, so that no long task is left for the end.
            futures = {pool.submit(task, name): name for name in sorted(wanted, key=lambda name: -costs[name])}
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                if progress:
                    progress(sum(costs[name] for name in done) / sum(costs.values()))
        except KeyboardInterrupt:
            # A thread inside LAPACK cannot be stopped; it is not waited for.
            pool.shutdown(wait=False, cancel_futures=True)
            raise Stopped(result()) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()
    return result()


def _selected(views: list[View], options: Options, model: str) -> list[View]:
    """The views, of which those that the patterns leave out say so."""

    def matches(view: View, pattern: str) -> bool:
        names = view.parameter, view.layer
        # `attn.qkv[q]` is a name, though to fnmatch its brackets are a choice of letters.
        return pattern in names or any(fnmatchcase(name, pattern) for name in names)

    for option, patterns in (("include", options.include), ("exclude", options.exclude)):
        for pattern in patterns:
            if not any(matches(view, pattern) for view in views):
                raise UserError(f"{model}: --{option}: no parameter or layer matches {pattern}")

    def wanted(view: View) -> bool:
        included = not options.include or any(matches(view, pattern) for pattern in options.include)
        return included and not any(matches(view, pattern) for pattern in options.exclude)

    return [
        view if view.reason or wanted(view) else View(view.layer, view.parameter, reason="not selected")
        for view in views
    ]


def _paired(model: str, tensors: Tensors, reference: Reference | None, names: list[str]) -> dict[str, str]:
    """Name in the model -> name in the reference: the same, or the same without what wrappers put before it."""
    if reference is None:
        return {}
    theirs = reference.tensors.entries
    bare = {PREFIX.sub("", name): name for name in theirs}
    pairs = {name: name if name in theirs else bare.get(PREFIX.sub("", name)) for name in names}
    pairs = {name: other for name, other in pairs.items() if other is not None}
    if names and not pairs:
        shown = f"{model} has {names[0]}, the reference {next(iter(theirs), 'nothing')}"
        raise UserError(f"--reference: none of the {len(names)} matrices is in it by name: {shown}")
    return pairs
