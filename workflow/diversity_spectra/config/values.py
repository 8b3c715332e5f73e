"""What all sections are made of: strict models, and values with their limits."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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


def key(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    return Field(default, description=description, **constraints)


def unique(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError(f"a value is listed twice: {values}")
    return values


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
