"""The documentation says what the code does: generated pages, links, and the names that it mentions."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from safetensors.numpy import save_file
from worlds import world

from diversity_spectra.cli import SUBCOMMANDS
from diversity_spectra.columns import TABLES, expand, names
from diversity_spectra.compare.options import Options
from diversity_spectra.compare.study import OUTPUTS, compare
from diversity_spectra.provenance import PACKAGE
from diversity_spectra.spectra.options import Options as SpectraOptions
from diversity_spectra.spectra.table import analyse

DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- the generated pages


def test_the_pages_are_what_the_code_gives(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    pages = generator.pages()
    stale = [path for path, text in pages.items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "run `make reference`"
    assert set(pages) >= {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/reference/*.md")}


def test_names_in_braces_are_expanded() -> None:
    assert expand("{a,b}_x{,_low}") == ["a_x", "a_x_low", "b_x", "b_x_low"]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_names_the_function_that_computes_it(table: str) -> None:
    for name, column in TABLES[table].columns.items():
        module, _, function = column.source.rpartition(".")
        assert hasattr(importlib.import_module(f"diversity_spectra.{module}"), function), (name, column.source)


def test_spectra_have_the_documented_columns_under_all_options(tmp_path: Path) -> None:
    """Every option that adds columns, in both conventions: their union is what is documented, nothing more or less."""
    rng = np.random.default_rng(0)
    for name in ("trained", "pretrained"):
        tensors = {
            "fc.weight": rng.standard_normal((40, 30)).astype(np.float32),
            "conv.weight": rng.standard_normal((16, 8, 3, 3)).astype(np.float32),
        }
        save_file(tensors, tmp_path / f"{name}.safetensors")
    written: set[str] = set()
    for options in (
        SpectraOptions(bootstrap=5, alternatives=True, randomize=True),
        SpectraOptions(convention="weightwatcher", mp=True, randomize=True),
    ):
        paths = (tmp_path / "trained.safetensors", tmp_path / "pretrained.safetensors")
        rows = analyse(*paths, options, kappa=0.9).rows
        assert set(rows["matrix"]) == {"W", "dW", "dW_corrected"}
        written |= set(rows.columns)
    assert written == names("spectra") - {"model", "condition", "seed", "depth", "kappa"}


def test_the_comparison_has_the_documented_columns() -> None:
    made = world("supported", seeds=2, baseline_runs=4)
    measures = [f"wvs_{form}{space}" for form in ("", "by_class_") for space in ("pixel", "embedding")]
    sets = made["diversity"]["training_set"].unique()
    made["quality"] = pd.DataFrame([(name, measure, 2.0) for name in sets for measure in measures])
    made["quality"].columns = ["training_set", "measure", "value"]
    tables = compare(made, Options(bootstrap=60, permutations=60))
    for name in OUTPUTS:
        assert set(tables[name].columns) == names(name), name


# ---------------------------------------------------------------- links and names


@cache
def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", prose(document))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (document.parent / file).resolve() if file else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def tracked() -> list[str]:
    """Files of the checkout, those not committed yet included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def is_there(name: str) -> bool:
    """Is a path, which may hold `*`, a file or folder of the checkout or of the package?"""
    return any(any(base.glob(name.rstrip("/"))) for base in (ROOT, PACKAGE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_that_are_named_exist(document: Path) -> None:
    """Code spans that look like a path: a first part that is a folder here, or the suffix of a source file."""
    folders = {path.name for base in (ROOT, PACKAGE) for path in base.iterdir() if path.is_dir()} - {
        "results",
        "logs",
        ".snakemake",
    }
    suffixes = (".py", ".md", ".smk", ".toml", ".rst")
    for span in re.findall(r"`([^`\n]+)`", prose(document)):
        if not re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+|[\w-]+\.\w+", span):
            continue
        if "/" in span and span.split("/")[0] in folders:
            assert is_there(span), span
        elif span.endswith(suffixes):
            assert is_there(span) or any(Path(path).name == span for path in tracked()), span


def test_tests_that_are_named_exist() -> None:
    code = "".join(path.read_text() for path in ROOT.glob("tests/test_*.py"))
    others = {name for table in TABLES for name in names(table)}
    others |= {*re.findall(r'"(test_\w+)"', (ROOT / "workflow/schemas/config.schema.json").read_text())}
    for document in (path for path in DOCUMENTS if path.parent.name != "reference"):
        for name in set(re.findall(r"`(test_\w+)`", document.read_text(encoding="utf-8"))) - others:
            assert f"def {name}(" in code, (document.name, name)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for step in action.choices.values() for option in options_of(step)}
    return found


@cache
def command_options(name: str) -> set[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"diversity_spectra.{SUBCOMMANDS[name][0]}").configure(parser)
    return options_of(parser)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    shell = [body for language, body in FENCE.findall(text) if language in ("sh", "text")]
    pieces = [*re.findall(r"`([^`\n]+)`", prose(document)), *"\n".join(shell).replace("\\\n", " ").splitlines()]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for piece in pieces:
        for command in re.findall(r"diversity-spectra ([a-z-]+)([^#|]*)", piece):
            assert command[0] in SUBCOMMANDS, piece
            unknown = set(re.findall(r"(?<![\w-])--[a-z-]+", command[1])) - command_options(command[0])
            assert not unknown, piece
        for target in re.findall(r"^\s*make ([a-z-]+)", piece):
            assert target in targets or target.startswith("bench-"), piece
