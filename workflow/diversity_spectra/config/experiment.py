"""One experiment: its data, networks and measures, each section a model of the stage that reads it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from diversity_spectra.augment.job import Copies, Materialise
from diversity_spectra.compare.job import Compare
from diversity_spectra.conditions import Condition, Conditions, expand
from diversity_spectra.data.job import Data, Digits, ImageFolder, Ood, OodCorruption, OodUciDigits, set_aside
from diversity_spectra.data.tree import counts, problem
from diversity_spectra.diversity.job import Diversity
from diversity_spectra.errors import UserError
from diversity_spectra.finetune.job import EMBEDDED, HUB, WEIGHTS, Network, Precision, Recipe, Tune, Weights
from diversity_spectra.generate.diffusers_pipeline import DiffusersPipeline
from diversity_spectra.generate.kinds import AnyGenerator
from diversity_spectra.generate.kinds.image_set import GeneratedImages
from diversity_spectra.report.job import Report
from diversity_spectra.settings import Absent, Count, Name, Positive, Settings, key
from diversity_spectra.spectra.job import Spectra


def _not_reserved(name: str) -> str:
    if name.lower() == "cache":
        raise ValueError("the name 'cache' is taken by the folder that all experiments share")
    return name


Experiment = Annotated[Name, AfterValidator(_not_reserved)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class TrainedModel(Recipe, Network):
    """One network with its recipe and its conditions."""

    name: Name = key(description="name in paths, tables and figures")
    weights: Weights = key(
        "none",
        description="`none` (from scratch), `embedded`, `hub`, `hub@COMMIT`, `hf-hub:OWNER/NAME@COMMIT`,"
        " `pretrain`, or a .safetensors / .pth file",
    )
    pretrain_steps: Count = key(
        1000,
        description="weights `pretrain`: steps of telling orientations apart on the generator's pool, before all runs",
    )
    evaluation_precision: Annotated[Precision, Absent("float32")] = key(
        "float32",
        description="what tests compute in; tf32 and less on GPUs",
    )
    tune: Tune | None = key(
        None, description="what of the recipe is chosen, on the images that data.validation_fraction sets aside"
    )
    seeds: int = key(3, ge=1, le=100000, description="runs of each condition")
    baseline_runs: int = key(
        6, ge=2, le=100000, description="runs of the baseline, the noise model: at least 2 x seeds"
    )
    seeds_per_job: int = key(1, ge=1, le=10000, description="runs of one condition that share a process")
    conditions: Conditions = key(Conditions(), description="what is compared")

    def expanded(self) -> list[Condition]:
        return [condition.within(self) for condition in expand(self.conditions)]

    @field_validator("weights")
    @classmethod
    def _commit(cls, value: str) -> str:
        found = HUB.fullmatch(value)
        if value.startswith(("hub@", "hf-hub:")) and not (found and found["commit"]):
            raise ValueError(f"{value!r}: after @ stands the commit of the weights, 40 hex digits")
        if not found and value not in WEIGHTS and not Path(value).suffix:
            raise ValueError(f"{value!r} is none of {', '.join(WEIGHTS)}, and no file (.safetensors or .pth)")
        return value

    @model_validator(mode="after")
    def _embedded_weights(self) -> TrainedModel:
        if self.weights == "embedded" and self.architecture not in EMBEDDED:
            raise ValueError(f"weights: embedded are those of {', '.join(EMBEDDED)}")
        return self

    @model_validator(mode="after")
    def _places_for_dropout(self) -> TrainedModel:
        where = {condition.training.get("dropout_where") for condition in self.expanded()}
        if "blocks" in where and not self.has_blocks:
            raise ValueError(f"{self.architecture} has no residual blocks: set `where: head` for its dropout")
        return self

    @model_validator(mode="after")
    def _layers_to_tell(self) -> TrainedModel:
        if not self.has_layers and (self.layer_decay < 1 or self.trained_blocks):
            raise ValueError(
                f"timm does not say which layers {self.architecture} has: no layer_decay, and trained_blocks only 0 or null"
            )
        if self.trained_blocks is not None and self.weights == "none":
            raise ValueError("trained_blocks: from scratch (weights: none) all blocks have to be trained")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate: a batch of {self.batch_size} has no {self.accumulate} parts")
        return self

    @model_validator(mode="after")
    def _noise_model(self) -> TrainedModel:
        if self.baseline_runs < 2 * self.seeds:
            raise ValueError(f"baseline_runs is {self.baseline_runs}; it must be at least 2 x seeds = {2 * self.seeds}")
        return self


class Execution(Settings):
    """How the work is done. Device and threads change at most the last bits of a result, so nothing here reruns anything."""

    device: Device = key("auto", description="auto | cpu | cuda | cuda:N for generating and training")
    jobs_per_gpu: int = key(1, ge=1, le=64, description="jobs that may share a GPU; small networks leave it idle alone")
    threads: int = key(1, ge=1, le=1024, description="threads of one training process on the CPU")
    generate_batch: int = key(64, ge=1, le=65536, description="images that are drawn together, at most")
    save_every: Positive = key(300.0, description="seconds between saved states of a training, to resume from")
    materialise: Materialise = key(
        "auto",
        description="store augmented training sets: auto (up to 20 GB each) | always | never (made when read: costs cores)",
    )
    keep_weights: Literal["all", "first_seed", "none"] = key(
        "all", description="of which runs weights stay once they are tested and analysed: all | first_seed | none"
    )


class Config(Settings):
    """One experiment."""

    experiment: Experiment = key(description="name of the folder results/<experiment>")
    seed: int = key(0, ge=0, lt=2**63, description="root of every random stream")
    data: Data = key(description="the data set")
    ood: list[Ood] = key([], description="out-of-distribution test sets")
    generator: AnyGenerator | None = key(None, description="source of synthetic images")
    copies: Copies = key(
        8,
        description="variants of each training image under an augmentation; fresh: a new one in every epoch, none stored",
    )
    models: list[TrainedModel] = key(min_length=1, description="the networks, each with its recipe and conditions")
    diversity: Diversity = key(Diversity(), description="measuring data")
    spectra: Spectra = key(Spectra(), description="measuring weights")
    compare: Compare = key(Compare(), description="comparing conditions")
    report: Report = key(Report(), description="figures and page")
    packages: list[str] = key([], description="packages whose upgrade makes the results that used them again")
    execution: Execution = key(
        Execution(), description="devices, threads, batches: last bits of a result at most, so nothing is made again"
    )

    @field_validator("diversity")
    @classmethod
    def _known_embedding(cls, value: Diversity) -> Diversity:
        """Its network and weights are those that a model may have: else every training is done before the mistake shows."""
        name, _, weights = value.embedding.partition(":")
        if value.embedding != "none":
            try:
                Network._known(name)
                TrainedModel._commit(weights or "hub")
            except ValueError as error:
                raise ValueError(f"embedding: {error}") from None
            if weights == "embedded" and name not in EMBEDDED:
                raise ValueError(f"embedding: weights embedded are those of {', '.join(EMBEDDED)}")
        return value

    @field_validator("packages")
    @classmethod
    def _installed(cls, value: list[str]) -> list[str]:
        for package in value:
            try:
                metadata.version(package)
            except (metadata.PackageNotFoundError, ValueError):
                raise ValueError(f"no package {package!r} is installed") from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"two models have the same name: {names}")
        for model in self.models:
            if model.tune and not self.data.validation_fraction:
                raise ValueError(
                    f"model {model.name!r} is tuned on images set aside, but data.validation_fraction is 0"
                )
            if model.weights == "pretrain" and not self.data.pool_per_class:
                raise ValueError(f"model {model.name!r} is pretrained on the pool, but data.pool_per_class is 0")
        if getattr(self.generator, "train_on", "") == "pool" and not self.data.pool_per_class:
            raise ValueError("generator.train_on is `pool`, but data.pool_per_class is 0")
        parts = self.generator.parts if self.generator else 1
        if parts > 1 and (classes := self.data.classes()) and parts > (made := self.generator.count(classes)):
            raise ValueError(f"generator.shards is {parts}, but there are only {made} images to make")
        if isinstance(self.data, ImageFolder):
            if wrong := problem(Path(self.data.path)):
                raise ValueError(f"data.path: {wrong}")
            if short := self.data.short():
                raise ValueError(f"data: {short}")
        if isinstance(self.generator, DiffusersPipeline):
            try:
                self.generator.prompts_of(self.data.names())
            except UserError as error:
                raise ValueError(f"generator: {error}") from None
        if any(isinstance(ood, OodUciDigits) for ood in self.ood) and not isinstance(self.data, Digits):
            raise ValueError("ood kind `uci_digits` needs data kind `digits`")
        return self

    @model_validator(mode="after")
    def _distinct_test_sets(self) -> Config:
        names = [getattr(ood, "name", ood.kind) for ood in self.ood if not isinstance(ood, OodCorruption)]
        for name in names:
            if names.count(name) > 1 or name in ("test", "synthetic") or name.startswith("test-"):
                raise ValueError(f"ood: the name {name!r} is taken, another test set has it")
        return self

    @model_validator(mode="after")
    def _enough_images(self) -> Config:
        real = self.data.train_per_class
        real = real and real - set_aside(self.data.validation_fraction, real)
        made = getattr(self.generator, "images_per_class", None)
        for name, images in (("data.train_per_class", real), ("generator.images_per_class", made)):
            if images and images < self.diversity.per_class:
                raise ValueError(f"diversity.per_class is {self.diversity.per_class}, but {name} only {images}")
        largest = {model.name: max(condition.data.synthetic for condition in model.expanded()) for model in self.models}
        by_class = self._by_class() if self.generator else {}
        for model, ratio in largest.items():
            if ratio and self.generator is None:
                raise ValueError(f"model {model!r} has synthetic conditions, but there is no `generator`")
            for name, (trained, synthetic) in by_class.items():
                if round(ratio * trained) > synthetic:
                    raise ValueError(
                        f"model {model!r}: {ratio:g} synthetic images per real one are {round(ratio * trained)} of"
                        f" {f'class {name!r}' if name else 'each class'}, but generator."
                        f"{'images_per_class is' if made else 'path holds'} {synthetic}"
                    )
        return self

    def _by_class(self) -> dict[str, tuple[int, int]]:
        """Images to train on of each class and synthetic ones, where files and settings tell; '' stands for every class.

        Raises ValueError for a class without images that the user generated.
        """
        if isinstance(self.data, ImageFolder):
            real = self.data.per_class()["train"]
            names = list(real)
        else:
            names = self.data.names()
            shape, number = self.data.shape("train"), self.data.classes()
            real = dict.fromkeys(names or [""], shape[0] // number) if shape and number else {}
        if not isinstance(self.generator, GeneratedImages):
            made = getattr(self.generator, "images_per_class", None)
            return {name: (number, made) for name, number in real.items() if made}
        if not names or not Path(self.generator.path).exists():  # a missing folder is said when it is read
            return {}
        given = counts(Path(self.generator.path))
        if missing := [name for name in names if name not in given]:
            raise ValueError(
                f"generator.path: {self.generator.path}: no folder for class {', '.join(map(repr, missing[:5]))}"
            )
        return {name: (number, given[name]) for name, number in real.items()}
