"""What stage `spectra` makes: eigenvalues and measures of the weight matrices of every run."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import ClassVar, Literal

from diversity_spectra.jobs import WEIGHTS, Input, RunsJob
from diversity_spectra.settings import Aside, Settings, key
from diversity_spectra.work import Sets, Work

# Of the kinds of measures, below the package: code of whatever reads their registry.
MODULES = tuple(f"spectra.kinds.{kind.name}" for kind in pkgutil.iter_modules([str(Path(__file__).with_name("kinds"))]))


class Spectra(Settings):
    """How weight matrices are analysed."""

    convention: Literal["strict", "weightwatcher"] = key("strict", description="definitions of the columns")
    conv: Literal["unfolded", "positions"] = key("unfolded", description="matrices of a convolution (strict)")
    min_eigenvalues: int = key(8, ge=2, le=100000, description="matrices with fewer eigenvalues are only listed")
    bootstrap: int = key(
        0,
        ge=0,
        le=100000,
        description="draws that choose xmin anew, for alpha's interval and goodness; 0 = 100 draws at the fitted xmin",
    )


class Analyse(RunsJob):
    """Eigenvalues and measures of the matrices of one condition's runs."""

    kind: ClassVar[str] = "spectra"
    command: ClassVar[str] = "spectra"
    makes: ClassVar[tuple[str, ...]] = ("rows.parquet", "eigenvalues.npz")
    threaded: ClassVar[bool] = True
    of_runs: ClassVar[tuple[str, ...]] = (WEIGHTS, "run.json")

    analysis: Spectra = key(Spectra(), description="how")
    network: Aside[str] = key("a network", description="what is analysed, for estimates of the time")
    runs: Input[str] = key(description="the runs")
    pretrained: Input[str | None] = key(None, description="weights that training started from")

    def modules(self) -> tuple[str, ...]:
        return MODULES

    def work(self, sets: Sets, results: int = 1) -> Work:
        matrices = "W and dW" if self.pretrained else "W"
        kind = f"{self.network}, {matrices}, {self.analysis.convention}, {self.analysis.bootstrap} draws"
        return Work(kind, "networks", results)
