"""One experiment: its networks, how data and weights are measured and compared, and how the work is done."""

from __future__ import annotations

import difflib
import math
import re
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from diversity_spectra.config.conditions import Conditions
from diversity_spectra.config.data import Data, Digits, Ood, OodCorruption, OodUciDigits
from diversity_spectra.config.generator import Ddpm, Generator
from diversity_spectra.config.values import Count, Device, Experiment, LocalPath, Model, Name, Positive, key, shown

# Arguments of timm that other keys stand for, or that would read files.
SET_ELSEWHERE = {"num_classes", "in_chans", "img_size", "drop_rate", "checkpoint_path", "cache_dir", "features_only"}


WEIGHTS = ("none", "embedded", "hub", "pretrain")
REGISTERED = re.compile(r"^@register_model\s+def (\w+)", re.MULTILINE)
TABLES = re.compile(r"^(?:register_model_deprecations\(__name__, |NETWORKS = )\{(.*?)\}", re.MULTILINE | re.DOTALL)


@cache
def architectures() -> frozenset[str]:
    """Names of all networks, read off the sources that register them: importing these would import torch."""
    timm = Path(find_spec("timm").submodule_search_locations[0], "models")
    names: set[str] = set()
    for source in (*timm.glob("*.py"), Path(__file__).parent.parent / "finetune" / "networks.py"):
        text = source.read_text(encoding="utf-8")
        names.update(REGISTERED.findall(text))
        names.update(name for table in TABLES.findall(text) for name in re.findall(r"['\"](\w+)['\"]:", table))
    return frozenset(names)


class TrainedModel(Model):
    """One network with its recipe and its conditions."""

    name: Name = key(description="name in paths, tables and figures")
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")] = key(description="a timm model")
    options: dict[str, Any] = key(
        {}, description="arguments of the architecture in timm, such as patch_size, embed_dim, depth, num_heads"
    )
    weights: LocalPath = key(
        "none",
        description="`none` (from scratch), `embedded`, `hub`, `hub@COMMIT`, `pretrain`, or a .safetensors / .pth file",
    )
    image_size: int = key(224, ge=4, le=2048, description="side of the input, pixels")
    resize: Literal["bicubic", "pad"] = key("bicubic", description="how images reach that side")
    channels: Literal[1, 3] = key(3, description="input channels; grey images are repeated to 3")
    pretrain_steps: Count = key(
        1000,
        description="weights `pretrain`: steps of telling orientations apart on the generator's pool, before all runs",
    )
    steps: Count = key(description="optimiser steps, the same for every condition")
    batch_size: int = key(32, ge=1, le=65536, description="images per step")
    lr: Positive = key(description="peak learning rate of AdamW", le=10)
    warmup: float = key(0.1, ge=0, lt=1, description="share of the steps with rising learning rate; then cosine to 0")
    clip: Positive | None = key(1.0, description="largest gradient norm; null = no clipping")
    freeze_norm: bool = key(False, description="keep BatchNorm's running statistics as pretrained")
    precision: Literal["float32", "bfloat16", "float16"] = key("float32", description="autocast precision of training")
    compile: bool = key(False, description="torch.compile: pays in long trainings on GPUs, differs in the last bits")
    ema: float = key(
        0.0, ge=0, lt=1, description="keep the moving average of the weights, e.g. 0.999; 0 = the last weights"
    )
    flip: bool = key(False, description="mirror half of the images at random in every condition (not for digits)")
    label_smoothing: float = key(0.0, ge=0, lt=1, description="label smoothing in every condition")
    on_divergence: Literal["fail", "record"] = key("fail", description="what a loss that is not finite does to the run")
    seeds: int = key(3, ge=1, le=100000, description="runs of each condition")
    baseline_runs: int = key(
        6, ge=2, le=100000, description="runs of the baseline, the noise model: at least 2 x seeds"
    )
    seeds_per_job: int = key(1, ge=1, le=10000, description="runs of one condition that share a process")
    conditions: Conditions = key(Conditions(), description="what is compared")

    @field_validator("options")
    @classmethod
    def _plain_options(cls, value: dict) -> dict:
        for name, option in value.items():
            if not re.fullmatch(r"[a-z]\w*", name) or name.startswith("pretrained") or name in SET_ELSEWHERE:
                raise ValueError(f"{name!r} cannot be set here")
            if not isinstance(option, str) and not (isinstance(option, int | float) and math.isfinite(option)):
                raise ValueError(f"{name}: {shown(option)} is no number, truth value or text")
        return value

    @field_validator("weights")
    @classmethod
    def _commit(cls, value: str) -> str:
        if value.startswith("hub@") and not re.fullmatch(r"hub@[0-9a-f]{40}", value):
            raise ValueError(f"{value!r}: after hub@ stands the commit of the weights, 40 hex digits")
        if not value.startswith("hub@") and value not in WEIGHTS and not Path(value).suffix:
            raise ValueError(f"{value!r} is none of {', '.join(WEIGHTS)}, and no file (.safetensors or .pth)")
        return value

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        known = architectures()
        if value.partition(".")[0] not in known:
            close = difflib.get_close_matches(value, known, n=3)
            raise ValueError(f"no network {value!r}" + (f"; similar: {', '.join(close)}" if close else ""))
        return value

    @model_validator(mode="after")
    def _embedded_weights(self) -> TrainedModel:
        if self.weights == "embedded" and self.architecture != "tf_efficientnet_lite0":
            raise ValueError("weights: embedded are those of tf_efficientnet_lite0")
        return self

    @model_validator(mode="after")
    def _noise_model(self) -> TrainedModel:
        if self.baseline_runs < 2 * self.seeds:
            raise ValueError(f"baseline_runs is {self.baseline_runs}; it must be at least 2 x seeds = {2 * self.seeds}")
        return self


class Diversity(Model):
    """How diversity is measured: the Vendi score (Friedman and Dieng 2023, arXiv 2210.02410)."""

    orders: list[Literal["1", "2", "inf"]] = key(
        ["1", "2", "inf"], min_length=1, description="orders of the Renyi entropy"
    )
    embedding: str = key(
        "none", pattern=r"^[A-Za-z0-9_.]+(:.+)?$", description="architecture:weights of the embedding kernel, or none"
    )
    image_size: int = key(32, ge=4, le=2048, description="side at which the embedding sees the images, pixels")
    per_class: int = key(
        80,
        ge=2,
        le=100000,
        description="images per class, the same for every set; fewer where the smallest class of an image_folder has fewer",
    )
    subsamples: int = key(5, ge=1, le=1000, description="random subsamples for the interval")


class Spectra(Model):
    """How weight matrices are analysed."""

    convention: Literal["strict", "weightwatcher"] = key("strict", description="definitions of the columns")
    conv: Literal["unfolded", "positions"] = key("unfolded", description="matrices of a convolution (strict)")
    min_eigenvalues: int = key(8, ge=2, le=100000, description="matrices with fewer eigenvalues are only listed")
    bootstrap: int = key(0, ge=0, le=100000, description="bootstrap draws for alpha's interval; 0 = none")


class Compare(Model):
    """How conditions are compared."""

    bootstrap: int = key(400, ge=50, le=100000, description="bootstrap draws over runs")
    permutations: int = key(400, ge=50, le=100000, description="permutations of runs")
    level: float = key(0.05, gt=0, lt=0.5, description="error level of tests and 1 - coverage of intervals")


class Report(Model):
    """What the report looks like."""

    title: Annotated[str, Field(max_length=200)] = key("", description="heading; empty = the experiment's name")
    palette: Literal["colorblind", "deep", "muted", "dark"] = key(
        "colorblind", description="seaborn palette of the families"
    )
    style: LocalPath | None = key(None, description="a matplotlib style file for the figures")
    dpi: int = key(150, ge=30, le=600, description="resolution of the PNG figures")


class Execution(Model):
    """How the work is done. Nothing here may change a result, so nothing here reruns anything."""

    device: Device = key("auto", description="auto | cpu | cuda | cuda:N for generating and training")
    threads: int = key(1, ge=1, le=1024, description="threads of one training process on the CPU")
    generate_batch: int = key(64, ge=1, le=65536, description="images generated at a time")
    save_every: Positive = key(300.0, description="seconds between saved states of a training, to resume from")


class Config(Model):
    """One experiment."""

    experiment: Experiment = key(description="name of the folder results/<experiment>")
    seed: int = key(0, ge=0, lt=2**63, description="root of every random stream")
    data: Data = key(description="the data set")
    ood: list[Ood] = key([], description="out-of-distribution test sets")
    generator: Generator | None = key(None, description="source of synthetic images")
    copies: int = key(8, ge=1, le=1000, description="variants of each training image under an augmentation")
    models: list[TrainedModel] = key(min_length=1, description="the networks, each with its recipe and conditions")
    diversity: Diversity = key(Diversity(), description="measuring data")
    spectra: Spectra = key(Spectra(), description="measuring weights")
    compare: Compare = key(Compare(), description="comparing conditions")
    report: Report = key(Report(), description="figures and page")
    packages: list[str] = key([], description="packages whose upgrade makes every result again")
    execution: Execution = key(Execution(), description="devices, threads, batches: never changes a result")

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
        made = getattr(self.generator, "images_per_class", None)
        for name, images in (("data.train_per_class", real), ("generator.images_per_class", made)):
            if images and images < self.diversity.per_class:
                raise ValueError(f"diversity.per_class is {self.diversity.per_class}, but {name} only {images}")
        for model in self.models:
            ratios = [ratio for synthetic in model.conditions.synthetic for ratio in synthetic.ratios]
            ratios += [combined.synthetic for combined in model.conditions.combinations if combined.synthetic]
            if real and made and max(ratios, default=0) * real > made:
                raise ValueError(
                    f"model {model.name!r}: {max(ratios):g} synthetic images per real one are {max(ratios) * real:g} per"
                    f" class, but generator.images_per_class is {made}"
                )
        return self
