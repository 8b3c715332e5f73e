"""What stage `report` makes: the figures and the page of one experiment."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from diversity_spectra import conditions
from diversity_spectra.jobs import Input, Job
from diversity_spectra.settings import Content, LocalPath, Settings, key
from diversity_spectra.spectra import job as spectra
from diversity_spectra.work import Sets, Work


class Look(Settings):
    """What figures look like."""

    palette: Literal["colorblind", "deep", "muted", "dark"] = key(
        "colorblind", description="seaborn palette of the families"
    )
    style: Annotated[LocalPath | None, Content()] = key(None, description="a matplotlib style file for the figures")
    dpi: int = key(150, ge=30, le=600, description="resolution of the PNG figures")


class Report(Look):
    """What the report looks like."""

    title: Annotated[str, Field(max_length=200)] = key("", description="heading; empty = the experiment's name")


class WriteReport(Job):
    """Every figure of an experiment, and the page that explains them."""

    kind: ClassVar[str] = "report"
    command: ClassVar[str] = "report"
    makes: ClassVar[tuple[str, ...]] = ("report.html",)

    look: Report = key(Report(), description="title and look")
    experiment: str = key(description="name of the experiment")
    config: dict[str, Any] = key({}, description="its configuration")
    tables: Input[str] = key(description="the tables of the comparison")
    images: Input[dict[str, str]] = key({}, description="image sets of which samples are shown, by name")
    spectra: Input[dict[str, str]] = key({}, description="spectra that are shown, by model and condition")

    def modules(self) -> tuple[str, ...]:
        return conditions.MODULES + spectra.MODULES

    @property
    def place(self) -> str:
        return f"results/{self.name}"

    def reads(self, results: object = ()) -> dict[str, tuple[str, ...]]:
        """Images and spectra are shown where they are there: a colour is no reason to make them again."""
        return {self.tables: ()}

    def work(self, sets: Sets, results: int = 1) -> Work:
        return Work("drawing", "conditions", len(self.spectra))
