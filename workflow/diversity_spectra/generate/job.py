"""What stage `generate` makes: a trained generator, synthetic images in shards, and their image set."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from diversity_spectra.generate.kind import Generator
from diversity_spectra.generate.kinds import AnyGenerator
from diversity_spectra.jobs import IMAGE_SET, Input, Job
from diversity_spectra.settings import key
from diversity_spectra.work import Sets, Shape, Work


class TrainGenerator(Job):
    """A generator that is trained here."""

    kind: ClassVar[str] = "generator"
    command: ClassVar[str] = "generate train"
    threaded: ClassVar[bool] = True

    source: AnyGenerator = key(description="the generator")
    seed: int = key(0, description="root of the random streams")
    images: Input[str] = key(description="images to train on")

    @field_validator("source")
    @classmethod
    def _trained(cls, value: Generator) -> Generator:
        if not value.trained:
            raise ValueError(f"a generator of kind {value.kind} is not trained here, it only draws")
        return value

    def modules(self) -> tuple[str, ...]:
        return (f"generate.kinds.{self.source.kind}",)

    def takes_device(self) -> bool:
        return True

    def options(self, execution: dict) -> dict[str, object]:
        return {"--save-every": execution["save_every"]}

    def work(self, sets: Sets, results: int = 1) -> Work:
        return self.source.training(sets.shape(self.images))


class DrawShard(Job):
    """One part of the synthetic images; every image depends on its own seed alone."""

    kind: ClassVar[str] = "shard"
    command: ClassVar[str] = "generate sample"
    makes: ClassVar[tuple[str, ...]] = IMAGE_SET
    threaded: ClassVar[bool] = True

    source: AnyGenerator = key(description="the generator")
    shard: Annotated[list[int], Field(min_length=2, max_length=2)] = key(
        [0, 1], description="number of the part, of how many"
    )
    seed: int = key(0, description="root of the random streams")
    images: Input[str] = key(description="real images: the classes, the shape, and what images start from")
    generator: Input[str | None] = key(None, description="the trained generator")

    def modules(self) -> tuple[str, ...]:
        return (f"generate.kinds.{self.source.kind}",)

    def takes_device(self) -> bool:
        return self.source.on_device

    def options(self, execution: dict) -> dict[str, object]:
        return {"--batch-size": execution["generate_batch"], "--save-every": execution["save_every"]}

    def work(self, sets: Sets, results: int = 1) -> Work:
        return self.source.drawing(sets.work("", sets.shape(self.out)))

    def shape(self, sets: Sets) -> Shape | None:
        shape, classes = sets.shape(self.images), sets.classes(self.images)
        if shape is None or classes is None:
            return None
        shard, shards = self.shard
        return len(range(shard, self.source.count(classes), shards)), *shape[1:]

    def classes(self, sets: Sets) -> int | None:
        return sets.classes(self.images)


class JoinShards(Job):
    """The parts as one synthetic image set."""

    kind: ClassVar[str] = "generate"
    command: ClassVar[str] = "generate join"
    makes: ClassVar[tuple[str, ...]] = IMAGE_SET

    shards: Input[list[str]] = key(min_length=1, description="the parts")

    def work(self, sets: Sets, results: int = 1) -> Work:
        return sets.work("joining", sets.shape(self.out))

    def shape(self, sets: Sets) -> Shape | None:
        shapes = [sets.shape(shard) for shard in self.shards]
        return None if None in shapes else (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def classes(self, sets: Sets) -> int | None:
        return sets.classes(self.shards[0])
