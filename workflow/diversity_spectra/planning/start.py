"""What the Snakefile asks before it starts: the plan, the locks, and what Snakemake's own report shows."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from diversity_spectra import provenance
from diversity_spectra.config import experiments
from diversity_spectra.jobs import RECORD, read_record
from diversity_spectra.planning import leftover, upgrades
from diversity_spectra.planning.lock import claim, hold
from diversity_spectra.planning.steps import Step, Work
from diversity_spectra.settings import typed
from diversity_spectra.stages import kinds


def plan(files: Collection[str], changes: dict, again: Collection[str]) -> Work:
    """The work that configuration files ask for, with changes laid over them; kinds in `again` are made anew.

    They are read again, strictly: Snakemake takes 1e-3 for a text and the last of two equal keys for the only one.
    """
    work = Work(experiments.load(*files, changes={name: typed(value) for name, value in changes.items()}), again)
    provenance.remember()
    return work


def texts(files: Collection[str]) -> dict[str, bytes]:
    """What configuration files hold, as far as they can be read."""
    found = {}
    for file in files:
        with suppress(OSError):
            found[str(file)] = Path(file).read_bytes()
    return found


def changed(before: dict[str, bytes]) -> list[str]:
    """What to say of configuration files that hold something else than they did."""
    now = texts(before)
    return [
        f"{file} has changed since this workflow read it; snakemake does what it asks for now"
        for file in before
        if now.get(file) != before[file]
    ]


def begin(work: Work, on_cluster: bool) -> tuple[list[str], list[str]]:
    """Take the locks; returns what users should know, and the jobs of a killed workflow that were cancelled.

    Raises `UserError` if another workflow is at work on the same.
    """
    for name in work.names:
        hold(name)
    claim(work.experiments.name, {f"{step.job.kind}/{step.job.item}" for step in work.to_do})
    names = {"_".join(step.wildcards).replace("/", "_") for step in work.to_do}
    cancelled = leftover.cancel(names) if on_cluster else []
    return [*work.notes, *upgrades.notes(work)], cancelled


# Ask for the graph of all jobs, those whose results are there included.
WHOLE = {"--report", "--dag", "--rulegraph", "--filegraph", "--d3dag", "--summary", "-S", "--detailed-summary", "-D"}
# Options of one letter and without a value may be written together with the next one: -nR finetune, -nF.
TOGETHER = re.compile(r"-([naflkptFSD]+)(\w*)")


def asked_again(command: list[str]) -> tuple[bool, set[str]]:
    """Whether Snakemake's command line asks for the graph of all jobs, and the kinds of jobs that are to be in it anyway."""
    command = [part for word in command for part in _apart(word)]
    options = [word.split("=")[0] for word in command]
    whole = bool(WHOLE & {*options})
    if whole or {"-F", "--forceall"} & {*options}:
        return whole, set(kinds())
    forced: set[str] = set()
    for index, option in enumerate(options):
        if option in ("-R", "--forcerun"):
            named = takewhile(lambda word: not word.startswith("-"), command[index + 1 :])
            forced |= {*named, *command[index].partition("=")[2].split()}
    return whole, forced & set(kinds())


def _apart(word: str) -> list[str]:
    """Options that are written together, each alone."""
    written = TOGETHER.fullmatch(word)
    return [f"-{part}" for part in (*written[1], written[2]) if part] if written else [word]


def forget(steps: Iterable[Step | None]) -> None:
    """Remove the records of what is to be made anew, all seeds of a block and both places, so that no job finds it there."""
    for step in steps:
        if step and step.again:
            places = [step.job.place] if step.job.place else []
            for folder in [*step.results, *places]:
                Path(folder, RECORD).unlink(missing_ok=True)


def figures(work: Work) -> Iterator[dict[str, Any]]:
    """The figures that are there, as arguments of Snakemake's `report()`, each with its file."""
    captions = Path(tempfile.mkdtemp(prefix="diversity-spectra-captions-"))
    for name in work.names:
        for figure in (read_record(f"results/{name}") or {}).get("figures", ()):
            caption = captions / f"{name}-{figure['name']}.rst"
            caption.write_text(figure["caption"] + "\n", encoding="utf-8")
            labels = {"figure": figure["title"], "model": figure["model"] or "all"}
            file = f"results/{name}/figures/{figure['name']}.svg"
            yield {"value": file, "caption": str(caption), "category": name, "labels": labels}
