"""What stage `compare` makes: the tables of runs put together, and every condition against the controls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from diversity_spectra import conditions
from diversity_spectra.compare import TABLES
from diversity_spectra.jobs import Input, Job, read_record
from diversity_spectra.settings import Absent, Settings, key
from diversity_spectra.spectra import job as spectra
from diversity_spectra.work import Sets, Work

OPTIONS = "options.json"  # beside tables that a command wrote by hand: settings of their comparison


class Compare(Settings):
    """How conditions are compared."""

    bootstrap: int = key(1000, ge=50, le=100000, description="bootstrap draws over runs")
    permutations: int = key(2000, ge=50, le=100000, description="permutations of runs")
    matrix: Annotated[Literal["dW", "W"], Absent("dW")] = key(
        "dW", description="what claims rest on: the change of the weights in training, or the weights themselves"
    )
    level: float = key(0.05, gt=0, lt=0.5, description="error level of tests and 1 - coverage of intervals")


def compared_with(tables: Path) -> dict:
    """Settings by which the tables in a folder were compared, as their record or `OPTIONS` has them; empty without either."""
    if record := read_record(tables):
        return record.get("settings", {}).get("compare", {})
    options = Path(tables, OPTIONS)
    return json.loads(options.read_text()) if options.exists() else {}


class Run(Settings):
    """The results of one run, by the stage that made them."""

    model: str
    condition: str
    seed: int
    finetune: str
    evaluate: str
    spectra: str

    @property
    def files(self) -> dict[str, str]:
        """The file of each stage that its tables come from."""
        return {self.finetune: "run.json", self.evaluate: "metrics.parquet", self.spectra: "rows.parquet"}


class Compared(Settings):
    """One condition of a model, as a row of the table `conditions`; nothing is known of how a checkpoint was trained."""

    model: str
    condition: str
    family: str
    kind: str
    strength: float | None
    training_set: str
    dropout: float | None
    weight_decay: float | None
    synthetic: float | None
    runs: int


class Gather(Job):
    """The tables of some hundred runs, put together."""

    kind: ClassVar[str] = "gather"
    command: ClassVar[str] = "gather"
    makes: ClassVar[tuple[str, ...]] = ("runs.parquet", "evaluation.parquet", "spectra.parquet")

    runs: Input[list[Run]] = key(min_length=1, description="the runs")

    def reads(self, results: object = ()) -> dict[str, tuple[str, ...]]:
        return {folder: (file,) for run in self.runs for folder, file in run.files.items()}

    def work(self, sets: Sets, results: int = 1) -> Work:
        return Work("gathering", "runs", len(self.runs))


class CompareConditions(Job):
    """Shifts, alignments, equivalents, the diversity metric and the claims of one experiment, with intervals."""

    kind: ClassVar[str] = "compare"
    command: ClassVar[str] = "compare"
    makes: ClassVar[tuple[str, ...]] = tuple(f"{table}.parquet" for table in TABLES)

    compare: Compare = key(Compare(), description="how")
    conditions: list[Compared] = key(min_length=1, description="the conditions of every model")
    seed: int = key(0, description="root of the random streams")
    runs: Input[list[str]] = key(min_length=1, description="gathered tables of runs")
    diversity: Input[dict[str, str]] = key({}, description="diversity by training set")

    def modules(self) -> tuple[str, ...]:
        return conditions.MODULES + spectra.MODULES

    @property
    def place(self) -> str:
        return f"results/{self.name}/tables"

    def work(self, sets: Sets, results: int = 1) -> Work:
        kind = f"comparing with {self.compare.bootstrap} draws, {self.compare.permutations} permutations"
        return Work(kind, "runs", sum(condition.runs for condition in self.conditions))
