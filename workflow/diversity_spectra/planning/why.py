"""`why`: say in words why a result would be made, or which earlier result it differs from and how."""

from __future__ import annotations

import argparse
import difflib
import json
from collections import Counter
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.planning.experiments import load
from diversity_spectra.planning.graph import steps
from diversity_spectra.planning.union import plan_all
from diversity_spectra.provenance import Job

NAMING = ("name", "model", "condition", "seed")  # keys that tell the entries of a list apart


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", help="STAGE, STAGE/NAME, or a file or folder below results/")
    parser.add_argument("--configfile", default="config.yaml", help="configuration (default: %(default)s)")
    parser.epilog = "example: diversity-spectra why finetune/mlp/dropout-0.3"


def run(arguments: argparse.Namespace) -> None:
    made = plan_all(load(arguments.configfile))
    jobs = [job for stage in made.jobs.values() for job in stage.values() if _matches(job, arguments.target)]
    if not jobs:
        labels = [f"{job.stage}/{job.name}" for stage in made.jobs.values() for job in stage.values()]
        close = difflib.get_close_matches(arguments.target, labels)
        raise UserError(
            f"{arguments.target}: no job of {arguments.configfile} makes this;"
            + (f" similar: {', '.join(close)};" if close else "")
            + f" `diversity-spectra why STAGE` lists the jobs of a stage ({', '.join(made.jobs)})"
        )
    missing = Counter()
    for step in steps(made):
        missing[step.job.out] += step.open
    for job in jobs:
        print("\n".join(explain(job, missing[job.out])))


def explain(job: Job, missing: int = 0) -> list[str]:
    """One line of verdict, then one line per difference to the nearest earlier result of the same name.

    missing: how many of the job's results (runs, where it makes several) are not there.
    """
    label = f"{job.stage}/{job.name}"
    found = list(Path(job.out).glob("spec.json")) + list(Path(job.out).glob("seed-*/spec.json"))
    if found and json.loads(found[0].read_text()).get("key") == job.key:
        ended = json.loads(found[0].read_text())["ended"]
        if missing:
            return [
                f"{label}: {missing} of its runs are not there (new seeds, or deleted); the others are kept ({job.out})"
            ]
        return [f"{label}: up to date, made {ended} ({job.out})"]
    earlier = _earlier(job)
    if earlier is None:
        return [f"{label}: would be made, nothing of this name was made before"]
    differences = list(_differences(earlier, job.spec))
    return [f"{label}: would be made again; against the result of {earlier['ended']}:", *differences]


def _matches(job: Job, target: str) -> bool:
    label = f"{job.stage}/{job.name}"
    place = target.rstrip("/")
    return target in (job.stage, label) or (place == job.out or place.startswith(f"{job.out}/"))


def _earlier(job: Job) -> dict | None:
    folders = [Path(job.out)] if job.place else Path("results/cache", job.stage).glob(f"{job.name}-{'[0-9a-f]' * 12}")
    specs = [path for folder in folders for path in (*folder.glob("spec.json"), *folder.glob("seed-*/spec.json"))]
    newest = max(specs, key=lambda path: path.stat().st_mtime, default=None)
    return json.loads(newest.read_text()) if newest else None


def _differences(before: dict, after: dict) -> list[str]:
    lines = []
    if before["code"] != after["code"]:
        lines.append(f"  the code of stage {after['stage']} (or of a module it imports) changed")
    lines += [f"  {line}" for line in _compared("", before["settings"], after["settings"])]
    for name in sorted({*before["inputs"], *after["inputs"]}):
        if before["inputs"].get(name) != after["inputs"].get(name):
            lines.append(
                f"  its input {name!r} is another one: {before['inputs'].get(name)} -> {after['inputs'].get(name)}"
            )
    return lines


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
        return [f"setting {path}: added"]
    if not after and isinstance(before, dict):
        return [f"setting {path}: removed"]
    return [f"setting {path}: {before!r} -> {after!r}"]


def _by_name(value: object) -> object:
    """A list of mappings as a mapping by their names, or else by their numbers; any other value as it is."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value) or not value:
        return value
    names = ["/".join(str(entry[key]) for key in NAMING if key in entry) for entry in value]
    unique = all(names) and len(set(names)) == len(names)
    return dict(zip(names if unique else map(str, range(len(value))), value, strict=True))
