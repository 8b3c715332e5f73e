"""What a pipeline is asked for each class: templates, captions of classes, and words for their names."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from diversity_spectra.errors import UserError

HEAD = ({"class", "label", "name"}, {"caption", "text", "prompt", "words"})  # what the two columns may be called


def prompts_of(
    templates: Sequence[str], captions: str | None, words: str | None, classes: Sequence[str]
) -> list[list[str]]:
    """The prompts of each class, which its images take in turn: the captions, or else the templates.

    captions, words: files as `read` takes them. `{name}` stands for the words of the class, or else for its name. Raises
    `UserError` for a class that has none.
    """
    named = {name: [name] for name in classes}
    if words:
        found = read(words)
        if not isinstance(found, dict):
            raise UserError(f"{words}: words for classes stand beside their names, in .yaml, .csv or .jsonl")
        named = _of_classes(found, words, classes)
    given = read(captions) if captions else list(templates)
    if isinstance(given, list):
        given = dict.fromkeys(classes, given)
    given = _of_classes(given, captions or "prompts", classes)
    return [[text.replace("{name}", named[name][0]) for text in given[name]] for name in classes]


def _of_classes(found: dict[str, list[str]], source: str, classes: Sequence[str]) -> dict[str, list[str]]:
    missing = [name for name in classes if not found.get(name)]
    if missing:
        raise UserError(f"{source}: nothing for class {', '.join(map(repr, missing[:5]))}")
    return found


def read(path: str) -> dict[str, list[str]] | list[str]:
    """Texts by class from .yaml (class: text or list), .csv, .tsv or .jsonl (class, caption); of other files the lines.

    Names of classes are what is written, `no` and `007` among them. Lines are templates. Raises `UserError` for a file that
    says nothing, or something else.
    """
    suffix = Path(path).suffix.lower()
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if suffix in (".yaml", ".yml"):
            found = {name: [given] if isinstance(given, str) else given for name, given in _mapping(text).items()}
        elif suffix in (".csv", ".tsv", ".jsonl"):
            found = _rows(_objects(text) if suffix == ".jsonl" else _cells(text, suffix))
        else:
            found = [line.strip() for line in text.splitlines() if line.strip()]
            without_name(found)
        lists = found.values() if isinstance(found, dict) else [found]
        if not found or not all(isinstance(part, list) and part for part in lists):
            raise ValueError("a list of captions is empty")
        if not all(isinstance(line, str) and line.strip() for part in lists for line in part):
            raise ValueError("a caption is no text")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}, line {error.problem_mark.line + 1}: not valid YAML ({error.problem})") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from None
    return found


def without_name(templates: Sequence[str]) -> None:
    """Raises `ValueError` for a template that says the same of every class."""
    for template in templates:
        if "{name}" not in template:
            raise ValueError(f"{template!r} lacks {{name}}, so it asks the same of every class")


def _mapping(text: str) -> dict:
    found = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 (it makes texts, lists and mappings, nothing else)
    if not isinstance(found, dict):
        raise ValueError("expected a mapping of classes to captions")
    return found


def _cells(text: str, suffix: str) -> list[list[str]]:
    lines = io.StringIO(text, newline="")  # a caption may hold line breaks
    rows = [row for row in csv.reader(lines, delimiter="\t" if suffix == ".tsv" else ",") if row]
    head = rows and len(rows[0]) == 2 and all(rows[0][k].strip().lower() in names for k, names in enumerate(HEAD))
    return rows[1:] if head else rows


def _objects(text: str) -> list[list[str]]:
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected an object with class and caption on each line")
    return [[row[key] for names in HEAD for key in row if key in names] for row in rows]


def _rows(rows: list[list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if len(row) != 2 or not all(isinstance(cell, str) for cell in row):
            raise ValueError(f"{row}: expected a class and its caption")
        found.setdefault(row[0].strip(), []).append(row[1].strip())
    return found
