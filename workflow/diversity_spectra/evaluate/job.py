"""What stage `evaluate` makes: predictions and metrics of every run, in and out of distribution."""

from __future__ import annotations

from typing import Annotated, ClassVar

from diversity_spectra.finetune.job import Network, Precision
from diversity_spectra.jobs import WEIGHTS, Input, RunsJob
from diversity_spectra.settings import Absent, key
from diversity_spectra.work import Sets, Work


class Evaluate(RunsJob):
    """Predictions of every test set by the runs of one condition, and their accuracy and calibration."""

    kind: ClassVar[str] = "evaluate"
    command: ClassVar[str] = "evaluate"
    makes: ClassVar[tuple[str, ...]] = ("predictions.npz", "metrics.parquet")
    threaded: ClassVar[bool] = True
    of_runs: ClassVar[tuple[str, ...]] = (WEIGHTS,)

    network: Network = key(description="the network")
    runs: Input[str] = key(description="the runs")
    sets: Input[dict[str, str]] = key(description="test sets by name; `test` is the one in distribution")
    precision: Annotated[Precision, Absent("float32")] = key("float32", description="what the network computes in")

    def takes_device(self) -> bool:
        return True

    def work(self, sets: Sets, results: int = 1) -> Work:
        shapes = [sets.shape(folder) for folder in self.sets.values()]
        images = None if None in shapes else sum(shape[0] for shape in shapes) * results
        kind = f"{self.network.told} at {self.network.image_size} px"
        return Work(kind if self.precision == "float32" else f"{kind}, {self.precision}", "images", images)
