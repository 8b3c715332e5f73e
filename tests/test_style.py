"""The tree itself: formatting, lint, pins in one place, no long file without a reason."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path

import pytest
import yaml
from dry_run import dry_run

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["snakefmt", "--check", "Snakefile", "workflow/rules"],
    ],
    ids=" ".join,
)
def test_checks_pass(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_snakemake_finds_nothing_but_that_rules_name_no_environment() -> None:
    """All rules share one, `.venv`, whose command comes first in the search path: an environment per rule would not be used."""
    done = subprocess.run([BIN / "snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"^    \* (.+):$", done.stdout + done.stderr, re.MULTILINE)
    assert set(found) == {"Specify a conda environment or container for each rule."}, done.stderr


@pytest.mark.parametrize(
    "config", sorted([*ROOT.glob("workflow/presets/*.yaml"), ROOT / "config.yaml"]), ids=lambda p: p.name
)
def test_every_configuration_plans_and_starts(config: Path, tmp_path: Path) -> None:
    # Presets for folders of images name some that a user brings.
    for path, name in product(re.findall(r"kind: image_folder.* path: ([^,}]+)", config.read_text()), ("cat", "dog")):
        (folder := tmp_path / path / name).mkdir(parents=True)
        for index in range(40):
            (folder / f"{index}.png").write_bytes(f"{path} {name} {index}".encode())
    planning = [BIN / "diversity-spectra", "plan", "--configfile", config]
    done = subprocess.run(planning, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "job" in dry_run(tmp_path, "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(config))


def test_conda_takes_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert "-r requirements.txt" in pip


def test_every_requirement_is_pinned_once() -> None:
    lines = [
        line for line in (ROOT / "envs/requirements.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r'[a-z0-9._-]+==[^ ]+( ; sys_platform == "linux")?', line) for line in lines), lines
    names = [line.split("==")[0] for line in lines]
    assert len(set(names)) == len(names)


def test_the_environment_is_the_pinned_one() -> None:
    from importlib import metadata

    for line in (ROOT / "envs/requirements.txt").read_text().splitlines():
        if "==" in line and "sys_platform" not in line:
            name, version = line.split("==")
            assert metadata.version(name) == version, name


def test_a_wheel_is_complete(tmp_path: Path) -> None:
    """Types are marked, and what is no module comes along; the logger of the profile too."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(
        ROOT / "workflow", tmp_path / "workflow", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", tmp_path, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {
        str(path.relative_to(ROOT / "workflow"))
        for package in ("diversity_spectra", "snakemake_logger_plugin_progress")
        for path in (ROOT / "workflow" / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_no_file_is_long() -> None:
    long = {
        str(path.relative_to(ROOT)): length
        for pattern in ("workflow/**/*.py", "workflow/**/*.smk", "Snakefile")
        for path in ROOT.glob(pattern)
        if (length := len(path.read_text().splitlines())) > 400
    }
    assert not long, long
