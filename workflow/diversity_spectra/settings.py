"""What a person sets, and what a job is made of: strict, closed models, and every mistake in one line.

An unknown key, a wrong type or a value out of range is an error that names the key's path, the value and what is allowed.
The meaning of every key is its `description`. Configuration and jobs are made of the same models.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from diversity_spectra.errors import UserError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Fraction = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
LocalPath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")]
LONGEST = 120  # characters of a name: with its key and those of other tables it has to fit a path


class ConfigError(UserError):
    """Every mistake of a configuration or a job, one line each."""


# ---------------------------------------------------------------- what identifies a setting


@dataclass(frozen=True)
class Absent:
    """A setting that came later: at this value a job has the key that it had before the setting was there.

    It never changes, whatever becomes of the setting's default.
    """

    value: Any


@dataclass(frozen=True)
class Content:
    """A setting that names a user's file or folder, which counts by its content.

    path: the file in a value, or None where it names none. images: of a folder only the images count.
    """

    path: Callable[[str], str | None] = lambda value: value
    images: bool = False


class Uncounted:
    """A setting that changes no result: it is part of no key."""


File = Annotated[LocalPath, Content()]
T = TypeVar("T")
Aside = Annotated[T, Uncounted()]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @classmethod
    def of(cls, other: Settings, **others: Any) -> Self:
        """This model with the values of another one that has its fields, and with these others; none is checked again."""
        return cls.model_construct(
            **{name: getattr(other, name) for name in cls.model_fields if name not in others}, **others
        )

    def reading(self, *names: str) -> Self:
        """The same with every setting but these at its default: what is not read makes no difference."""
        fields = type(self).model_fields
        kept = {*names, *(name for name, field in fields.items() if field.is_required())}
        return self.model_copy(update={name: field.get_default() for name, field in fields.items() if name not in kept})

    def paths(self, place: str = "") -> Iterator[tuple[str, str, bool]]:
        """Every user's file or folder that is named here, as (key, path, whether only images count)."""
        for name, field in type(self).model_fields.items():
            value, key = getattr(self, name), f"{place}.{name}".lstrip(".")
            content = _marked(field.metadata, Content)
            if content and value is not None and (path := content.path(value)):
                yield key, path, content.images
            elif isinstance(value, Settings):
                yield from value.paths(key)

    def identity(self, contents: dict[str, str]) -> dict:
        """The settings that count, as plain values. contents: digest of every user's file or folder, by its path."""
        counted = {}
        for name, field in type(self).model_fields.items():
            value, absent = getattr(self, name), _marked(field.metadata, Absent)
            if _marked(field.metadata, Uncounted) or (absent and value == absent.value):
                continue
            content = _marked(field.metadata, Content)
            if content and value is not None and (path := content.path(value)) in contents:
                value = value.replace(path, contents[path])
            counted[name] = _plain(value, contents)
        return counted


M = TypeVar("M", bound=Settings)


def package_folder(name: str) -> Path:
    """The folder of an installed package, which is not imported: planning is light. Raises ModuleNotFoundError."""
    found = find_spec(name)
    if found is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return Path(found.submodule_search_locations[0])


def _marked(metadata: list, kind: type[T]) -> T | None:
    return next((mark for mark in metadata if isinstance(mark, kind)), None)


def _plain(value: object, contents: dict[str, str]) -> object:
    if isinstance(value, Settings):
        return value.identity(contents)
    if isinstance(value, dict):
        return {key: _plain(part, contents) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, contents) for part in value]
    return value


def key(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    return Field(default, description=description, **constraints)


def unique(values: list) -> list:
    if len(set(values)) != len(values):
        raise ValueError(f"a value is listed twice: {values}")
    return values


def written(number: float) -> str:
    """A number as it stands in a name: short, and never the name of another number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def shortened(name: str) -> str:
    """A name that fits a path; a longer one ends in a digest of all of it."""
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------- reading


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys; 1e-3 is a number, as everywhere else in Python."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key_node, deep=True)
            if isinstance(name, str):
                if name in seen:
                    raise ConfigError(f"line {key_node.start_mark.line + 1}: the key {name!r} is given twice")
                seen.add(name)
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


def typed(value: Any) -> Any:
    """What texts inside a mapping or a list stand for in YAML: `--config a='{b: 60}'` comes from Snakemake as {"b": "60"}."""
    if isinstance(value, dict):
        return {key: _scalar(held) for key, held in value.items()}
    return [_scalar(held) for held in value] if isinstance(value, list) else value


def _scalar(value: Any) -> Any:
    if not isinstance(value, str):
        return typed(value)
    loader = _StrictLoader(value)
    try:
        return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, value, (True, False)), value))
    except ValueError:  # looks like a date and is none
        return value
    finally:
        loader.dispose()


def validate(
    model: type[M], values: object, source: str, inside: Callable[[list], Iterable] = lambda location: location
) -> M:
    """Validate a mapping from `source`. Raises `ConfigError` with one line per mistake.

    inside: from a location in the model to where a reader finds it.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [f"{source}: {_printable(line)}" for line in dict.fromkeys(_explain(error, model, inside))]
    except RecursionError:
        lines = [f"{source}: nested too deeply or refers to itself"]
    raise ConfigError("\n".join(lines))


@cache
def schema(model: type[Settings]) -> dict:
    """JSON schema of a model, for editors."""
    return model.model_json_schema()


# Pydantic's words for these are those of Python.
_SHAPES = {"list_type": "a list", **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping")}


def _explain(error: ValidationError, model: type[Settings], inside: Callable[[list], Iterable]) -> Iterable[str]:
    tags = _tags(model)
    for item in error.errors(include_url=False):
        # Pydantic puts the tag of a discriminated union into the location; the user never wrote it there.
        location = [part for part in item["loc"] if part not in tags]
        if location and item["type"] == "extra_forbidden" and item["loc"][-1] in tags:
            location = [*location, item["loc"][-1]]
        path = _dotted(inside(location)) or "(top level)"
        message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if item["type"] == "extra_forbidden":
            known = sorted(set(_siblings(location[:-1], schema(model))))
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}" if known else "not known"
            )
            yield f"{path}: unknown key; {hint}"
        elif item["type"] == "missing":
            yield f"{path}: missing; it has no default"
        elif item["type"] == "union_tag_not_found":
            yield f"{path}.kind: missing; it has no default"
        elif item["type"] == "union_tag_invalid":
            kind, known = item["ctx"]["tag"], sorted(item["ctx"]["expected_tags"].replace("'", "").split(", "))
            close = difflib.get_close_matches(kind, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            yield f"{path}.kind: {shown(kind)} is not allowed; {hint}allowed: {', '.join(known)}"
        elif item["type"] == "value_error":
            yield f"{path}: {message}"
        else:
            allowed = _SHAPES.get(item["type"], message[0].lower() + message[1:])
            yield f"{path}: {shown(item['input'])} is not allowed; allowed: {allowed}"


@cache
def _tags(model: type[Settings]) -> frozenset[str]:
    """Every `kind` by which a union in the model is told apart."""

    def found(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from node.get("discriminator", {}).get("mapping", ())
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from found(child)

    return frozenset(found(schema(model)))


def _dotted(location: Iterable) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _printable(text: str) -> str:
    """The text on one line of a terminal, whatever the user's file holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _siblings(location: list, schemas: dict) -> list[str]:
    """Keys that the models know at a location; all members' keys where a union stands."""
    nodes = [schemas]
    for part in location:
        found = []
        for node in _resolve(nodes, schemas):
            if isinstance(part, int):
                found.append(node.get("items", {}))
            else:
                found.append(node.get("properties", {}).get(part) or node.get("additionalProperties") or {})
        nodes = [node for node in found if isinstance(node, dict)]
    return [name for node in _resolve(nodes, schemas) for name in node.get("properties", {})]


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
