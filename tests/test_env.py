"""`make env`: when an environment is built anew, and that a failure or a running workflow costs none."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT


@pytest.fixture
def build(tmp_path: Path) -> ModuleType:
    """envs/build.py of a checkout that has nothing else, but for an environment that fits."""
    (tmp_path / "envs").mkdir()
    for name in ("envs/build.py", "envs/requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    spec = importlib.util.spec_from_file_location("build", tmp_path / "envs/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (module.VENV / "bin").mkdir(parents=True)
    module.STAMP.write_text(module.wanted())
    return module


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_only_pins_commands_and_the_place_matter(build: ModuleType, tmp_path: Path) -> None:
    edit(tmp_path / "pyproject.toml", "[tool.ruff]", "# a comment\n[tool.ruff]\nfix = true")
    edit(tmp_path / "envs/requirements.txt", "torch==", "# another\n\ntorch==")
    assert build.main() == 0
    before = build.wanted()
    edit(tmp_path / "envs/requirements.txt", "\npandas==", "\npandas==9")
    assert build.wanted() != before
    edit(tmp_path / "envs/requirements.txt", "\npandas==9", "\npandas==")
    edit(tmp_path / "pyproject.toml", 'diversity-spectra = "', 'spectra = "')
    assert build.wanted() != before
    edit(tmp_path / "pyproject.toml", 'spectra = "diversity_', 'diversity-spectra = "diversity_')
    assert build.wanted() == before
    build.ROOT = tmp_path / "moved"
    shutil.copytree(tmp_path / "envs", build.ROOT / "envs")
    shutil.copy(tmp_path / "pyproject.toml", build.ROOT)
    assert build.wanted() != before


def test_not_while_something_runs_in_it(build: ModuleType) -> None:
    python = build.VENV / "bin/python"
    python.symlink_to(sys.executable)
    build.STAMP.write_text("older pins")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    waiting = subprocess.Popen([python, "-c", "print('here', flush=True); input()"], **pipes)
    try:
        assert waiting.stdout.readline() == "here\n"
        assert str(waiting.pid) in build.main()
    finally:
        waiting.communicate()
    assert build.STAMP.read_text() == "older pins"


def test_what_fails_leaves_the_earlier_one(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    build.STAMP.write_text("older pins")

    def half(command: list, check: bool) -> None:
        if "venv" not in command:
            raise subprocess.CalledProcessError(1, command)
        build.VENV.mkdir()

    monkeypatch.setattr(build.subprocess, "run", half)
    assert "failed; the earlier .venv" in build.main()
    assert build.STAMP.read_text() == "older pins" and not build.VENV.with_name(".venv-earlier").exists()
