"""`why`: say in words why a result would be made, or which earlier result it differs from and how."""

from __future__ import annotations

import argparse
import difflib
import glob
from collections import Counter
from pathlib import Path

from diversity_spectra.config.experiments import load
from diversity_spectra.errors import UserError
from diversity_spectra.jobs import CACHE, RECORD, Job, read_record
from diversity_spectra.planning.steps import Work

NAMING = ("name", "model", "condition", "seed")  # keys that tell the entries of a list apart


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", help="STAGE, STAGE/NAME, or a file or folder below results/")
    parser.add_argument("--configfile", default="config.yaml", help="configuration (default: %(default)s)")
    parser.epilog = "example: diversity-spectra why finetune/mlp/dropout-0.3"


def run(arguments: argparse.Namespace) -> None:
    work = Work(load(arguments.configfile))
    jobs = [job for job in work.jobs.values() if _matches(job, arguments.target)]
    if not jobs:
        labels = [f"{job.kind}/{job.name}" for job in work.jobs.values()]
        close = difflib.get_close_matches(arguments.target, labels)
        raise UserError(
            f"{arguments.target}: no job of {arguments.configfile} makes this;"
            + (f" similar: {', '.join(close)};" if close else "")
            + " `diversity-spectra why STAGE` lists the jobs of a stage"
            f" ({', '.join(dict.fromkeys(job.kind for job in work.jobs.values()))})"
        )
    missing = Counter()
    for step in work.steps:
        missing[step.job.out] += len(step.open)
    for job in jobs:
        print("\n".join(explain(job, missing[job.out])))


def explain(job: Job, missing: int) -> list[str]:
    """One line of verdict, then one line per difference to the nearest earlier result of the same name.

    missing: how many of the job's results (runs, where it makes several) are to be made.
    """
    label = f"{job.kind}/{job.name}"
    folders = (Path(job.out), *Path(job.out).glob("seed-*"), Path(job.place or job.out))
    found = [record for folder in folders if (record := read_record(folder))]
    if found and found[0].get("key") == job.key:
        if missing:
            return [
                f"{label}: {missing} of its results are not there (new seeds, or deleted); others are kept ({job.out})"
            ]
        return [f"{label}: up to date, made {found[0]['ended']} ({job.out})"]
    if not missing:
        return [f"{label}: not there, and not to be made: nothing that is to be made reads it"]
    earlier = _earlier(job)
    if earlier is None:
        return [f"{label}: would be made, nothing of this name was made before"]
    differences = list(_differences(earlier, job.spec))
    return [f"{label}: would be made again; against the result of {earlier['ended']}:", *differences]


def _matches(job: Job, target: str) -> bool:
    place = target.rstrip("/")
    places = (job.out, job.place or job.out)
    return target in (job.kind, f"{job.kind}/{job.name}") or any(f"{place}/".startswith(f"{own}/") for own in places)


def _earlier(job: Job) -> dict | None:
    """The record of the newest result of the job's name."""
    folders = Path(CACHE, job.kind).glob(f"{glob.escape(job.name)}-{'[0-9a-f]' * 12}")
    places = [path for folder in folders for path in (folder, *folder.glob("seed-*")) if (path / RECORD).exists()]
    newest = max(places, key=lambda path: (path / RECORD).stat().st_mtime, default=None)
    return read_record(newest) if newest else None


def _differences(before: dict, after: dict) -> list[str]:
    lines = []
    if before["code"] != after["code"]:
        lines.append(f"the code of stage {after['stage']} (or of a module it imports) changed")
    for part, word in (
        ("settings", "setting"),
        ("counted", "package"),
        ("contents", "content of"),
        ("inputs", "input"),
    ):
        lines += [f"{word} {line}" for line in _compared("", before.get(part, {}), after[part])]
    return [f"  {line}" for line in lines]


def _compared(path: str, before: object, after: object) -> list[str]:
    before, after = _by_name(before), _by_name(after)
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted({*before, *after})
        return [
            line for key in keys for line in _compared(f"{path}.{key}".lstrip("."), before.get(key), after.get(key))
        ]
    if before == after:
        return []
    if not before and isinstance(after, dict):
        return [f"{path}: added"]
    if not after and isinstance(before, dict):
        return [f"{path}: removed"]
    return [f"{path}: {before!r} -> {after!r}"]


def _by_name(value: object) -> object:
    """A list of mappings as a mapping by their names, or else by their numbers; any other value as it is."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value) or not value:
        return value
    names = ["/".join(str(entry[key]) for key in NAMING if key in entry) for entry in value]
    unique = all(names) and len(set(names)) == len(names)
    return dict(zip(names if unique else map(str, range(len(value))), value, strict=True))
