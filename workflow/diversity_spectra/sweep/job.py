"""What stage `sweep` makes: one page over the experiments of a sweep."""

from __future__ import annotations

from typing import Any, ClassVar

from diversity_spectra import conditions
from diversity_spectra.jobs import Input, Job
from diversity_spectra.report.job import Look
from diversity_spectra.settings import Settings, key
from diversity_spectra.spectra import job as spectra
from diversity_spectra.sweep import TABLES
from diversity_spectra.work import Sets, Work


class Told(Settings):
    """What the page says of one experiment."""

    experiment: str
    level: float | None = None
    data: dict[str, Any] | None = None
    generator: str | None = None
    models: dict[str, list[str]] = key({}, description="architecture and weights of each network")


class WriteSweep(Job):
    """The tables of all experiments together, and networks, data sets and conditions side by side."""

    kind: ClassVar[str] = "sweep"
    command: ClassVar[str] = "sweep"
    makes: ClassVar[tuple[str, ...]] = ("report.html", *(f"tables/{table}.parquet" for table in TABLES))

    look: Look = key(Look(), description="look")
    sweep: str = key(description="name of the sweep")
    experiments: list[Told] = key(min_length=1, description="the experiments")
    tables: Input[list[str]] = key(min_length=1, description="tables of the comparison of each experiment")

    def modules(self) -> tuple[str, ...]:
        return conditions.MODULES + spectra.MODULES

    @property
    def place(self) -> str:
        return f"results/{self.name}"

    def work(self, sets: Sets, results: int = 1) -> Work:
        return Work("several experiments", "experiments", len(self.experiments))
