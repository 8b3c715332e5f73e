"""What stage `diversity` makes: Vendi scores of an image set, and the quality of the synthetic one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from diversity_spectra.finetune.job import Precision, weights_file
from diversity_spectra.jobs import Input, Job
from diversity_spectra.settings import Absent, Content, Settings, key
from diversity_spectra.work import Sets, Work


def _weights(embedding: str) -> str | None:
    return weights_file(embedding.partition(":")[2])


class Diversity(Settings):
    """How diversity is measured: the Vendi score (Friedman and Dieng 2023, arXiv 2210.02410)."""

    orders: Annotated[list[Literal["1", "2", "inf"]], AfterValidator(lambda orders: sorted({*orders}))] = key(
        ["1", "2", "inf"], min_length=1, description="orders of the Renyi entropy"
    )
    embedding: Annotated[str, Content(_weights)] = key(
        "none", pattern=r"^[A-Za-z0-9_.]+(:.+)?$", description="architecture:weights of the embedding kernel, or none"
    )
    image_size: int = key(32, ge=4, le=2048, description="side at which the embedding sees the images, pixels")
    precision: Annotated[Precision, Absent("float32")] = key("float32", description="what the embedding computes in")
    per_class: int = key(
        80,
        ge=2,
        le=100000,
        description="images per class, the same for every set; fewer where a class of the training images has fewer",
    )
    subsamples: int = key(5, ge=1, le=1000, description="random subsamples for the interval")


class MeasureDiversity(Job):
    """Vendi scores per class and overall; with a reference also distances to the real images and near-copies."""

    kind: ClassVar[str] = "diversity"
    command: ClassVar[str] = "diversity"
    makes: ClassVar[tuple[str, ...]] = ("scores.parquet", "quality.parquet")
    threaded: ClassVar[bool] = True

    measured: Diversity = key(Diversity(), description="how")
    seed: int = key(0, description="root of the random streams")
    images: Input[str] = key(description="image set")
    reference: Input[str | None] = key(None, description="real images that it was made after")
    test: Input[str | None] = key(None, description="test images, looked for among synthetic or training images")
    plain: Input[str | None] = key(
        None, description="training images as they are: no set is scored at more images than their smallest class has"
    )

    def takes_device(self) -> bool:
        return self.measured.embedding != "none"

    def work(self, sets: Sets, results: int = 1) -> Work:
        how = self.measured
        space = "pixels" if how.embedding == "none" else f"{how.embedding} at {how.image_size} px"
        space += "" if how.precision == "float32" else f", {how.precision}"
        kind = f"{space}, {how.per_class} of a class"
        if self.reference:
            shape = sets.shape(self.images)
            return Work(f"{kind}, near-copies", "images", shape and shape[0])
        classes = sets.classes(self.images)
        return Work(kind, "images", classes and classes * how.per_class * how.subsamples)
