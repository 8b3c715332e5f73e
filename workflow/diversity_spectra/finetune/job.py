"""What stage `finetune` makes: pretrained weights in one format, and one run per condition and seed."""

from __future__ import annotations

import difflib
import math
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from diversity_spectra.jobs import Input, Job, RunsJob
from diversity_spectra.settings import (
    Absent,
    Aside,
    Content,
    Count,
    Fraction,
    LocalPath,
    Positive,
    Settings,
    key,
    package_folder,
    shown,
    unique,
)
from diversity_spectra.work import Sets, Work

# Arguments of timm that other keys stand for, or that would read files.
SET_ELSEWHERE = {"num_classes", "in_chans", "img_size", "drop_rate", "checkpoint_path", "cache_dir", "features_only"}
REGISTERED = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
TABLES = re.compile(r"^(?:register_model_deprecations\(__name__, |NETWORKS = )\{(.*?)\}", re.MULTILINE | re.DOTALL)
EMBEDDED = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")  # whose weights packages carry
WEIGHTS = ("none", "embedded", "hub", "pretrain")
HUB = re.compile(r"(?:hub|hf-hub:(?P<repository>[\w.-]+/[\w.-]+))(?:@(?P<commit>[0-9a-f]{40}))?")


# Modules of timm whose networks have no residual branches that end in a module which drops them, so no blocks for dropout.
# Tried one by one: benchmarks/networks.md.
WITHOUT_BLOCKS = frozenset(
    [
        "convmixer",
        "densenet",
        "dla",
        "dpn",
        "efficientvit_mit",
        "efficientvit_msra",
        "ghostnet",
        "inception_resnet_v2",
        "inception_v3",
        "inception_v4",
        "lcnetv2",
        "nasnet",
        "nextvit",
        "pnasnet",
        "repghost",
        "repvit",
        "selecsls",
        "senet",
        "shvit",
        "vgg",
        "xception",
    ]
)
# Modules of timm whose networks do not say which layers they have.
WITHOUT_LAYERS = frozenset(["csatv2", "metaformer", "pit"])


@cache
def architectures() -> dict[str, str]:
    """The module that registers each network, by its name, read off the sources: importing these would import torch."""
    timm = package_folder("timm") / "models"
    found: dict[str, str] = {}
    for source in (*timm.glob("*.py"), Path(__file__).parent / "networks.py"):
        text = source.read_text(encoding="utf-8")
        names = REGISTERED.findall(text)
        names += [name for table in TABLES.findall(text) for name in re.findall(r"['\"](\w+)['\"]:", table)]
        found |= dict.fromkeys(names, source.stem)
    return found


def weights_file(weights: str) -> str | None:
    """The file that weights come from, or None where they come another way."""
    return weights if Path(weights).suffix and not weights.startswith(("hub@", "hf-hub:")) else None


Weights = Annotated[LocalPath, Content(weights_file)]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]


class Network(Settings):
    """A network, and how images reach it."""

    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")] = key(description="a timm model")
    options: dict[str, Any] = key(
        {}, description="arguments of the architecture in timm, such as patch_size, embed_dim, depth, num_heads"
    )
    image_size: int = key(224, ge=4, le=2048, description="side of the input, pixels")
    resize: Literal["bicubic", "pad"] = key("bicubic", description="how images reach that side")
    channels: Literal[1, 3] = key(3, description="input channels; grey images are repeated to 3")

    @field_validator("options")
    @classmethod
    def _plain_options(cls, value: dict) -> dict:
        for name, option in value.items():
            if not re.fullmatch(r"[a-z]\w*", name) or name.startswith("pretrained") or name in SET_ELSEWHERE:
                raise ValueError(f"{name!r} cannot be set here")
            if not isinstance(option, str) and not (isinstance(option, int | float) and math.isfinite(option)):
                raise ValueError(f"{name}: {shown(option)} is no number, truth value or text")
        return value

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        known = architectures()
        if value.partition(".")[0] not in known:
            close = difflib.get_close_matches(value, known, n=3)
            raise ValueError(f"no network {value!r}" + (f"; similar: {', '.join(close)}" if close else ""))
        return value

    @property
    def has_blocks(self) -> bool:
        """Whether dropout can act at the end of its residual branches."""
        return architectures()[self.architecture.partition(".")[0]] not in WITHOUT_BLOCKS

    @property
    def has_layers(self) -> bool:
        """Whether timm says which of its parameters make a layer."""
        return architectures()[self.architecture.partition(".")[0]] not in WITHOUT_LAYERS

    @property
    def told(self) -> str:
        """The network and what it is built with, which may make it larger."""
        return " ".join([self.architecture, *(f"{name}={value}" for name, value in sorted(self.options.items()))])


class Recipe(Settings):
    """How a network is trained, whatever the condition."""

    steps: Count = key(description="optimiser steps, the same for every condition but those of `optimisation`")
    batch_size: int = key(32, ge=1, le=65536, description="images per step")
    lr: Positive = key(description="peak learning rate", le=10)
    optimizer: Annotated[Literal["adamw", "adam", "sgd"], Absent("adamw")] = key(
        "adamw",
        description="adamw: decoupled decay; adam, sgd (momentum 0.9): torch's, whose decay is coupled, added to the gradient as L2",
    )
    schedule: Annotated[Literal["cosine", "linear", "constant"], Absent("cosine")] = key(
        "cosine", description="learning rate after warm-up: cosine or linear to 0, or constant"
    )
    warmup: float = key(0.1, ge=0, lt=1, description="share of the steps with rising learning rate")
    clip: Positive | None = key(1.0, description="largest gradient norm; null = no clipping")
    freeze_norm: bool = key(False, description="keep BatchNorm's running statistics as pretrained")
    precision: Precision = key("float32", description="what training computes in; tf32 and less on GPUs")
    compile: Annotated[bool, Absent(False)] = key(
        False, description="torch.compile: pays in long trainings on GPUs, differs in the last bits"
    )
    ema: Annotated[float, Absent(0.0)] = key(
        0.0,
        ge=0,
        lt=1,
        description="keep the moving average of the weights, slowing down to e.g. 0.999; 0 = the last weights",
    )
    flip: bool = key(False, description="mirror half of the images at random in every condition (not for digits)")
    label_smoothing: float = key(0.0, ge=0, lt=1, description="label smoothing in every condition")
    base_weight_decay: Annotated[float, Absent(0.0)] = key(
        0.0, ge=0, description="weight decay in every condition; the family weight_decay adds its own"
    )
    decay_vectors: Annotated[bool, Absent(False)] = key(
        False, description="decay biases, norms and what timm excepts as well, not matrices only"
    )
    mixup: Annotated[float, Absent(0.0)] = key(
        0.0,
        ge=0,
        le=10,
        description="alpha of mixup in every condition, e.g. 0.2; 0 = none; with cutmix, one of the two",
    )
    cutmix: Annotated[float, Absent(0.0)] = key(
        0.0, ge=0, le=10, description="alpha of CutMix in every condition, e.g. 1"
    )
    trained_blocks: Annotated[int | None, Absent(None), Field(ge=0)] = key(
        None,
        description="train only the classifier and so many of the last blocks, as timm groups layers, and freeze the rest:"
        " 0 = linear probe; null = train all",
    )
    layer_decay: Annotated[Fraction, Absent(1.0)] = key(
        1.0, description="learning rate of each block over that of the next one, e.g. 0.75; 1 = all alike"
    )
    balanced: Annotated[bool, Absent(False)] = key(
        False, description="draw every class as often, images with replacement, where classes differ in size"
    )
    accumulate: Annotated[int, Absent(1), Field(ge=1)] = key(
        1, description="parts that a batch passes the network in, gradients added up; BatchNorm sees one part at a time"
    )
    split_batch_norm: Aside[bool] = key(
        False,
        description="where memory lacks, let parts of a batch through BatchNorm in training, whose statistics then are theirs",
    )
    on_divergence: Aside[Literal["fail", "record"]] = key(
        "fail", description="what a loss that is not finite does to the run"
    )


class Training(Recipe):
    """A recipe with what a condition changes in it."""

    dropout: float = key(0.0, ge=0, lt=1, description="dropout probability")
    dropout_where: Literal["", "blocks", "head"] = key("", description="where dropout acts")
    weight_decay: float = key(0.0, ge=0, description="weight decay beside that of every condition")

    def work(self, network: Network, runs: int, images: str = "") -> Work:
        kind = f"{network.told} at {network.image_size} px, {self.precision}, {self.batch_size} a step{images}"
        return Work(kind, "images", self.steps * self.batch_size * runs)


class Tune(Settings):
    """Settings of the recipe that are chosen: by plain trainings, on images set aside, before all runs of the experiment."""

    lr: Annotated[list[Annotated[float, Field(gt=0, le=10)]], AfterValidator(unique)] = key(
        min_length=2,
        description="learning rates that are tried; the one of the best validation accuracy is taken for `lr`",
    )
    seeds: int = key(2, ge=1, le=1000, description="trainings with each; no run of the experiment is one of them")


class Trial(Settings):
    """A run with a learning rate, and the folder of its evaluation."""

    lr: float
    evaluate: str


class ChooseRate(Job):
    """The learning rate of a network, by the accuracy of plain trainings on the images that are set aside."""

    kind: ClassVar[str] = "choose"
    command: ClassVar[str] = "finetune choose"
    makes: ClassVar[tuple[str, ...]] = ("choice.json",)

    lr: float = key(description="learning rate of the recipe, which conditions may multiply")
    trials: Input[list[Trial]] = key(min_length=1, description="runs with every learning rate")

    def reads(self, results: object = ()) -> dict[str, tuple[str, ...]]:
        return {trial.evaluate: ("metrics.parquet",) for trial in self.trials}

    def work(self, sets: Sets, results: int = 1) -> Work:
        return Work("choosing", "runs", len(self.trials))


class Pretrain(Job):
    """The pretrained weights of a network in one format: fetched, or trained on the pool. They are the reference of dW."""

    kind: ClassVar[str] = "pretrained"
    command: ClassVar[str] = "finetune pretrained"
    makes: ClassVar[tuple[str, ...]] = ("model.safetensors",)
    threaded: ClassVar[bool] = True

    network: Network = key(description="the network")
    weights: Weights = key(
        description="`embedded`, `hub`, `hub@COMMIT`, `hf-hub:OWNER/NAME@COMMIT`, `pretrain`, or a file"
    )
    training: Training | None = key(None, description="how it is pretrained")
    seed: int = key(0, description="root of the random streams")
    images: Input[str | None] = key(None, description="images that it is pretrained on")

    def takes_device(self) -> bool:
        return self.training is not None

    def options(self, execution: dict) -> dict[str, object]:
        return {"--save-every": execution["save_every"]}

    def work(self, sets: Sets, results: int = 1) -> Work:
        return self.training.work(self.network, 1) if self.training else Work(self.network.told, "networks", 1)


class Finetune(RunsJob):
    """The runs of one condition; of a user's checkpoint one, for which nothing is trained."""

    kind: ClassVar[str] = "finetune"
    command: ClassVar[str] = "finetune train"
    makes: ClassVar[tuple[str, ...]] = ("model.safetensors", "history.parquet", "run.json")
    threaded: ClassVar[bool] = True

    network: Network = key(description="the network")
    training: Training | None = key(None, description="how it is trained; none for a checkpoint")
    checkpoint: Annotated[LocalPath | None, Content()] = key(None, description="weights that stand for a run")
    seed: int = key(0, description="root of the random streams")
    train: Input[str] = key(description="training set")
    pretrained: Input[str | None] = key(None, description="weights that training starts from")
    tuned: Input[str | None] = key(None, description="the choice of the learning rate")

    def takes_device(self) -> bool:
        return self.training is not None

    def options(self, execution: dict) -> dict[str, object]:
        return {"--save-every": execution["save_every"]}

    def work(self, sets: Sets, results: int = 1) -> Work:
        if self.training is None:
            return Work(f"checkpoint of {self.network.told}", "networks", results)
        made = "" if sets.stored(self.train) else ", images made when read"
        return self.training.work(self.network, results, made)
