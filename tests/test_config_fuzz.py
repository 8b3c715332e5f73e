"""Mutated configurations: each is accepted and planned inside results/, or refused with one line per mistake."""

from __future__ import annotations

import copy
import datetime
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from diversity_spectra.config import ConfigError, load
from diversity_spectra.errors import UserError
from diversity_spectra.planning.plan import plan

ROOT = Path(__file__).parent.parent
MUTANTS = 600
VALUES = [
    None,
    True,
    -1,
    0,
    3,
    2**70,
    1e308,
    float("inf"),
    float("nan"),
    0.5,
    "",
    "yes",
    "none",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "x; rm -rf ~",
    "$(touch pwned)",
    "`touch pwned`",
    "{wildcards.item}",
    "<script>alert(1)</script>",
    "naïve-日本語-🙂",
    "a\nb",
    "\x00",
    "x" * 5000,
    [],
    {},
    [[]],
    {"a": {"b": {"c": 1}}},
    [0.1, 0.1],
    ["dropout"],
    datetime.date(2026, 1, 1),
]


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Every key and index of a nested value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(config: dict, dice: random.Random) -> dict:
    mutant = copy.deepcopy(config)
    for _ in range(dice.randint(1, 3)):
        path = dice.choice(list(places(mutant)))
        parent = mutant
        for key in path[:-1]:
            parent = parent[key]
        kind = dice.choice(["replace", "replace", "delete", "rename", "duplicate"])
        if kind == "replace":
            parent[path[-1]] = copy.deepcopy(dice.choice(VALUES))
        elif kind == "delete":
            del parent[path[-1]]
        elif kind == "rename" and isinstance(parent, dict):
            parent[str(dice.choice([f"{path[-1]}s", "rate", "", "🙂", "__class__"]))] = parent.pop(path[-1])
        elif kind == "duplicate" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
        if not list(places(mutant)):
            break
    return mutant


def outcome(path: Path) -> str:
    """`planned` or `refused`; anything else is an error of the program and passes through."""
    try:
        made = plan(load(path))
    except ConfigError as error:
        assert str(error) and all(line.startswith(f"{path}: ") for line in str(error).splitlines()), str(error)
        return "refused"
    except UserError as error:
        assert "\n" not in str(error)
        return "refused"
    for job in made.jobs:
        inside = Path(job.out).resolve().is_relative_to(Path("results").resolve())
        assert inside and ".." not in Path(job.out).parts, job.out
    return "planned"


def test_mutants_are_planned_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((ROOT / "tests/configs/tiny.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    dice = random.Random(0)
    found = {"planned": 0, "refused": 0}
    for number in range(MUTANTS):
        mutant = mutate(config, dice)
        Path("mutant.yaml").write_text(yaml.dump(mutant, allow_unicode=True), encoding="utf-8")
        try:
            found[outcome(Path("mutant.yaml"))] += 1
        except Exception as error:
            raise AssertionError(f"mutant {number}: {mutant}") from error
    assert sum(found.values()) == MUTANTS and min(found.values()) > 20, found
    assert sorted(path.name for path in tmp_path.iterdir()) in (["mutant.yaml"], ["mutant.yaml", "results"])


TRICKS = {
    "anchor to itself": "experiment: &a [*a]\n",
    "deep anchors": "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nexperiment: *c\n",
    "yes is a bool": "experiment: yes\n",
    "octal": "experiment: tiny\nseed: 0o17\n",
    "date": "experiment: 2026-01-01\n",
    "duplicate": "experiment: a\nexperiment: b\n",
    "tag": "experiment: !!python/name:os.system\n",
    "two documents": "experiment: a\n---\nexperiment: b\n",
    "binary": "experiment: !!binary aGVsbG8=\n",
    "set": "models: !!set {a, b}\n",
    "tabs": "experiment:\n\t- a\n",
    "merge of no mapping": "<<: 3\nexperiment: a\n",
    "keys that are no strings": "1: 2\n? [a]\n: b\n",
    "nested": "experiment: " + "[" * 400 + "]" * 400 + "\n",
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_of_yaml_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "trick.yaml"
    path.write_text(TRICKS[name])
    assert outcome(path) == "refused"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00experiment")
    assert outcome(path) == "refused"
