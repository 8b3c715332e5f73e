"""What several tests share: a copy of the checkout in a folder of its own, and the tiny experiment, finished, in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from dry_run import dry_run
from filelock import FileLock

from diversity_spectra.compare import TABLES

ROOT = Path(__file__).parent.parent
TINY = "tests/configs/tiny.yaml"
COPIED = ("Snakefile", "config.yaml", "workflow", "envs", "tests", "docs", "pyproject.toml")


class Checkout:
    """A copy of the checkout; commands run in it use its own code."""

    def __init__(self, folder: Path):
        self.folder = folder

    def run(
        self, *command: str, check: bool = True, package: Path | None = None, **options: object
    ) -> subprocess.CompletedProcess:
        environment = {
            **os.environ,
            "PYTHONPATH": str(package or self.folder / "workflow"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, **options
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    def snakemake(self, *arguments: str, config: str = TINY, **options: object) -> subprocess.CompletedProcess:
        return self.run("snakemake", "--configfile", config, "--logger", "progress", *arguments, **options)


def tables(checkout: Checkout) -> dict[str, bytes]:
    """Of the tiny experiment, as they lie on disk."""
    return {name: (checkout.folder / f"results/tiny/tables/{name}.parquet").read_bytes() for name in TABLES}


def assert_same_tables(one: Checkout, other: Checkout) -> None:
    mine, theirs = tables(one), tables(other)
    assert [name for name in TABLES if mine[name] != theirs[name]] == []


def untrained(finished: Checkout, folder: Path) -> Checkout:
    """A copy of the finished experiment without its runs, told to work on the CPU; everything before them is there."""
    shutil.copytree(finished.folder, folder)
    for stage in ("finetune", "evaluate", "spectra", "gather", "compare", "report"):
        shutil.rmtree(folder / "results/cache" / stage)
    shutil.rmtree(folder / "results/tiny")
    shutil.rmtree(folder / "logs")
    config = folder / TINY
    config.write_text(config.read_text() + "execution: {device: cpu}\n")
    return Checkout(folder)


def until(condition: Callable[[], object], seconds: float, what: str, pause: float = 0.2) -> object:
    """Wait for a true value of `condition` and return it; an AssertionError says what did not come."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
    return value


JOB = re.compile(r"^would run (\S+)", re.MULTILINE)


def would_run(checkout: Checkout, config: str = TINY) -> Counter:
    """Jobs by stage that a dry run lists."""
    said = dry_run(checkout.folder, "--configfile", config, "--logger", "progress")
    return Counter(JOB.findall(said.replace(":", " ")))


def copy_checkout(folder: Path) -> Checkout:
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy(source, folder / name)
    return Checkout(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Checkout:
    """A checkout in which the tiny experiment has run to its end. Tests that change it copy it first.

    One process of the tests runs it, and each has a copy.
    """
    own = tmp_path_factory.getbasetemp()
    run = (own if worker_id == "master" else own.parent) / "run"
    with FileLock(f"{run}.lock"):
        if not (run / "seconds").exists():
            shutil.rmtree(run, ignore_errors=True)
            checkout = copy_checkout(run / "checkout")
            start = time.monotonic()
            (run / "log").write_text(checkout.snakemake("--cores", "2").stderr)
            (run / "seconds").write_text(str(time.monotonic() - start))
    shutil.copytree(run / "checkout", own / "finished", symlinks=True)
    checkout = Checkout(own / "finished")
    checkout.log = (run / "log").read_text()
    checkout.seconds = float((run / "seconds").read_text())
    return checkout


@pytest.fixture(scope="module")
def edited(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished checkout at another place: moving it is the first edit."""
    folder = tmp_path_factory.mktemp("edited") / "moved"
    shutil.copytree(finished.folder, folder, symlinks=True)
    shutil.copy(ROOT / ".gitignore", folder)
    return Checkout(folder)
