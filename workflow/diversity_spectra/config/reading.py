"""From a file to a configuration, and every mistake in one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from diversity_spectra.config.experiment import Config
from diversity_spectra.config.values import ConfigError, M, shown


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


# Pydantic's words for these are those of Python.
_SHAPES = {"list_type": "a list", **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping")}

_TAGS = {
    "digits", "torchvision", "image_folder", "uci_digits", "corruption", "arrays",
    "ddpm", "text_to_image", "image_to_image", "image_set",
}  # fmt: skip


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
