"""Running one job at the edge: its JSON from the command line, its log, its record beside the result.

Every result folder holds `spec.json`: the job (settings, code digest, inputs), digests of the files made, package
versions, device, start and end.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from diversity_spectra.costs import ledger
from diversity_spectra.errors import UserError
from diversity_spectra.files import atomic_folder, sha256, write_json

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "torch",
    "torchvision",
    "timm",
    "diffusers",
    "safetensors",
    "matplotlib",
    "seaborn",
)

log = logging.getLogger("diversity_spectra")


def add_job(parser: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """Add `--job` and `--out`; to a subcommand with options of its own (not `alone`) only an optional `--job`."""
    parser.add_argument(
        "--job",
        required=alone,
        metavar="JSON",
        help="the job as JSON text (settings, inputs, out), or the name of a spec.json, which makes its result again",
    )
    if alone:
        parser.add_argument("--out", help="write here instead of where the job says")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")


def read_job(text: str, out: str | None = None) -> dict:
    """The job as a dictionary, with another `out` if given; logging to standard error starts here.

    Raises `UserError` if it is no job, or if an input is missing or damaged.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        job = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    except FileNotFoundError:
        raise UserError(f"{text}: no such job file") from None
    except ValueError as error:
        raise UserError(f"--job is not JSON ({error})") from None
    missing = [key for key in ("settings", "inputs", "out") if key not in job]
    if missing:
        raise UserError(f"--job lacks {', '.join(missing)}; copy it from `snakemake -np` or from a spec.json")
    job = {"key": "by-hand", "name": "by-hand", **job}
    if out:
        job["out"] = out
    ledger.open_job(job)
    for path in _paths(job["inputs"]):
        check_input(path)
    return job


@contextmanager
def publish(job: dict, out: str | Path | None = None, **facts: object) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well it becomes the result, with its record.

    `facts` go into the record as they are (device, seed). A failure or a kill leaves nothing behind that could be
    taken for a result.
    """
    started = datetime.now(UTC)
    out = Path(out or job["out"])
    with atomic_folder(out) as folder:
        yield folder
        write_json(folder / "spec.json", record(job, folder, started, **facts))
    ledger.result(out, facts.get("seed"))
    log.info("wrote %s", out)


def finished(folder: str | Path, key: str) -> bool:
    """Whether the folder holds the result of this very job: one of the runs that a grown block of seeds has already.

    If so its files are touched: Snakemake wants the outputs of a job newer than its inputs.
    """
    folder = Path(folder)
    try:
        spec = json.loads((folder / "spec.json").read_text())
        if spec["key"] != key or not all((folder / name).exists() for name in spec["outputs"]):
            return False
    except (OSError, ValueError, KeyError):
        return False
    for path in folder.iterdir():
        path.touch()
    return True


def record(job: dict, folder: Path, started: datetime, **facts: object) -> dict:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "spec.json" and not path.name.startswith(".")
    )
    return {
        **job,
        **facts,
        "outputs": {str(path.relative_to(folder)): sha256(path) for path in files},
        "packages": versions(),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_input(path: str | Path) -> None:
    """Compare a result folder with the digests in its record. Raises `UserError` naming the damaged file."""
    folder = Path(path)
    if not folder.exists():
        raise UserError(f"{path}: this input is missing; run snakemake to make it")
    spec = folder / "spec.json"
    if not spec.exists():
        return
    for name, expected in json.loads(spec.read_text()).get("outputs", {}).items():
        file = folder / name
        if not file.exists() or sha256(file) != expected:
            state = "missing" if not file.exists() else "damaged (its content is not what was written)"
            raise UserError(f"{file} is {state}; delete the folder {folder} and run snakemake again to rebuild it")


def _paths(inputs: dict) -> list[str]:
    return [path for value in inputs.values() for path in (value if isinstance(value, list) else [value])]
