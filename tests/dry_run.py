"""Dry runs of Snakemake in children of one process that has it imported already: half the time of starting anew.

A module of its own since a child imports it: it must not bring pytest, nor this checkout's own package.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["snakemake.cli"])


def dry_run(folder: Path, *arguments: str) -> str:
    """What `snakemake -n` prints in `folder`, with the code of that folder; both streams."""
    with tempfile.NamedTemporaryFile() as said:
        child = _FORKS.Process(target=_child, args=(str(folder), ("-n", *arguments), said.name))
        child.start()
        child.join()
        text = Path(said.name).read_text()
    assert child.exitcode == 0, text[-4000:]
    return text


def _child(folder: str, arguments: tuple[str, ...], said: str) -> None:
    out = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(folder)
    package = str(Path(folder, "workflow"))
    sys.path.insert(0, package)
    os.environ["PYTHONPATH"] = package
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main()
