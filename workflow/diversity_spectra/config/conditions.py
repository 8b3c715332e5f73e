"""Families of conditions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.config.values import LocalPath, Model, Name, Positive, Rate, key, unique


class Dropout(Model):
    """Dropout (Srivastava et al. 2014)."""

    rates: list[Rate] = key(min_length=1, description="dropout probabilities")
    where: Literal["blocks", "head"] = key("blocks", description="inside the blocks too, or only before the classifier")

    _distinct = field_validator("rates")(unique)


class WeightDecay(Model):
    """Decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) on matrices only."""

    values: list[Positive] = key(min_length=1, description="decay; each step multiplies a matrix by 1 - lr x decay")

    _distinct = field_validator("values")(unique)


Augmentation = create_model(
    "Augmentation",
    __base__=Model,
    __doc__="Kinds of augmentation, each with its levels in natural units.",
    __module__=__name__,
    __validators__={"_distinct": field_validator("*")(unique)},
    **{
        name: (list[Annotated[kind.type, Field(**kind.limits)]], key([], description=kind.meaning))
        for name, kind in KINDS.items()
    },
)


class Synthetic(Model):
    """Synthetic images in the training set; the number of optimiser steps stays the same."""

    ratios: list[Annotated[float, Field(gt=0, le=100)]] = key(
        min_length=1, description="synthetic images per real image"
    )
    mode: Literal["added", "replaced"] = key(
        "added", description="`added` to the real images, or `replaced`: so large a share of the real images gives way"
    )

    _distinct = field_validator("ratios")(unique)

    @model_validator(mode="after")
    def _share(self) -> Synthetic:
        if self.mode == "replaced" and max(self.ratios) > 1:
            raise ValueError(f"mode `replaced` needs ratios up to 1, got {max(self.ratios)}")
        return self


class Combination(Model):
    """Several techniques at once."""

    dropout: Rate | None = key(None, description="dropout probability")
    weight_decay: Positive | None = key(None, description="decay")
    augmentation: dict[str, float] = key({}, description="kind: level")
    synthetic: Annotated[float, Field(gt=0, le=100)] | None = key(
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

    dropout: Dropout | None = key(None, description="dropout alone")
    weight_decay: WeightDecay | None = key(None, description="weight decay alone")
    augmentation: Augmentation = key(Augmentation(), description="augmentations, each alone")
    synthetic: list[Synthetic] = key([], description="synthetic images, each entry alone")
    combinations: list[Combination] = key([], description="techniques together")
    checkpoint: dict[Name, LocalPath] = key(
        {}, description="your own trained weights by name (.safetensors, or .pth read with weights_only)"
    )
