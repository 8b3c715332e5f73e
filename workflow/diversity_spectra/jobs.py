"""What a job is, and where its result lies.

A stage declares its jobs in `<stage>/job.py`, as models whose fields are settings and inputs, folders of other results.
A job's *key* is the digest of one canonical JSON text: the kind of job, a digest of the code that it runs, its settings and
the folders of its inputs, which hold the keys of the jobs that made them. So an edit reaches exactly the results that could
differ, and going back to an earlier setting finds the earlier results again.

A result is there if and only if its record is, `spec.json` in its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field

from diversity_spectra.errors import UserError
from diversity_spectra.settings import Settings, validate
from diversity_spectra.work import Sets, Shape, Work

CACHE = "results/cache"
LAID = "results/.laid"  # marks which result lies in each place that people read
RECORD = "spec.json"
KEYED = re.compile(r".+-[0-9a-f]{12}")  # the name of a result's folder
IN_CACHE = re.compile(rf"^{CACHE}/([^/]+)/.*-([0-9a-f]{{12}})(?=/|$)")
WEIGHTS = "model.safetensors"
IMAGE_SET = ("images.npy", "labels.npy", "manifest.parquet", "meta.json")


@cache
def processor() -> str:
    """Name of this machine's processor: last digits of a result may depend on it."""
    with suppress(OSError):
        if found := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1]
    return platform.processor() or platform.machine()


class Read:
    """A field that names folders of other results."""


T = TypeVar("T")
Input = Annotated[T, Read()]


def canonical(value: object) -> str:
    """JSON with sorted keys and no white space: equal values give equal text, whatever their order in a file."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


class Job(Settings):
    """One unit of work. Fields marked `Input` are folders of results, relative to the checkout; all others are settings.

    kind: name of the rule, and of the folder in the cache. command: what the rule calls. makes: the files of a result
    beside its record. threaded: whether the rule has the threads of the configuration.
    """

    kind: ClassVar[str]
    command: ClassVar[str]
    makes: ClassVar[tuple[str, ...]] = ()
    threaded: ClassVar[bool] = False

    name: str = "by-hand"
    code: str = ""
    packages: dict[str, str] = Field({}, description="versions of packages that count")
    contents: dict[str, str] = Field({}, description="digest of every user's file or folder that is read, by its path")
    folder: str | None = Field(None, description="where the result lies, if not in the cache under its name")

    @property
    def place(self) -> str | None:
        """Where the finished result is laid for people to read, beside its place in the cache."""
        return None

    @classmethod
    def input_names(cls) -> list[str]:
        return [name for name, field in cls.model_fields.items() if any(isinstance(m, Read) for m in field.metadata)]

    @classmethod
    def setting_names(cls) -> list[str]:
        aside = {*Job.model_fields, *cls.input_names()}
        return [name for name in cls.model_fields if name not in aside]

    @cached_property
    def inputs(self) -> dict:
        given = {name: _plain(getattr(self, name)) for name in self.input_names()}
        return {name: value for name, value in given.items() if value}

    @cached_property
    def key(self) -> str:
        counted = self.identity(self.contents)
        settings = {name: counted[name] for name in self.setting_names() if name in counted}
        inputs = _nameless(self.inputs)
        code = {"code": self.code, "packages": self.packages} if self.packages else {"code": self.code}
        return digest({"stage": self.kind, **code, "settings": settings, "inputs": inputs})

    @property
    def item(self) -> str:
        """Its folder, below that of its kind in the cache."""
        return (self.folder or "").removeprefix(f"{CACHE}/{self.kind}/") or f"{self.name}-{self.key}"

    @property
    def out(self) -> str:
        return self.folder or f"{CACHE}/{self.kind}/{self.item}"

    @property
    def mark(self) -> Path:
        """The file that says that the result lies in its place."""
        return Path(LAID, self.kind, self.item)

    def is_laid(self) -> bool:
        return self.mark.exists() and is_there(self.place, self.key)

    @property
    def spec(self) -> dict:
        """The job as it stands in files and records, with the processor of the machine that writes it."""
        settings = self.model_dump(mode="json", include=set(self.setting_names()))
        return {
            "stage": self.kind, "name": self.name, "key": self.key, "code": self.code, "settings": settings,
            "inputs": self.inputs, "counted": self.packages, "contents": self.contents, "out": self.out,
            "machine": processor(),
        }  # fmt: skip

    def results(self, seeds: Iterable[int] = ()) -> list[str]:
        """Folders that the job makes."""
        return [self.out]

    def reads(self, results: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
        """Folders that have to be there before the job makes these of its results, and the files read in each (empty: all)."""
        return dict.fromkeys(_folders(self.inputs), ())

    def behind(self) -> dict[str, tuple[str, ...]]:
        """Folders that are read with the result, as `reads` gives them: those of which it is made when it is read."""
        return {}

    def modules(self) -> tuple[str, ...]:
        """Modules of the package that the job finds by a name in its settings, below `diversity_spectra`."""
        return ()

    def cores(self, threads: int) -> int:
        """Cores that the job uses, where a training has so many threads."""
        return threads if self.threaded else 1

    def takes_device(self) -> bool:
        """Whether the job runs on the GPU where there is one."""
        return False

    def options(self, execution: dict) -> dict[str, object]:
        """Options of its command that `execution` of the configuration sets, beside device and threads."""
        return {}

    def work(self, sets: Sets, results: int = 1) -> Work:
        """What the job has to do, for so many results where it makes one for each seed."""
        raise NotImplementedError

    def shape(self, sets: Sets) -> Shape | None:
        """Of the image set that the job makes, where the settings tell."""
        return None

    def classes(self, sets: Sets) -> int | None:
        return None


class RunsJob(Job):
    """A job that makes one result for each seed, `seed-<seed>/`, in blocks of seeds that share a process."""

    def results(self, seeds: Iterable[int] = ()) -> list[str]:
        return [f"{self.out}/seed-{seed}" for seed in seeds]

    # Files that are read of each run in the field `runs`.
    of_runs: ClassVar[tuple[str, ...]] = ()

    def reads(self, results: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
        """Of the field `runs`, the runs with the same seeds."""
        runs = self.inputs.get("runs")
        read = dict.fromkeys(_folders({name: value for name, value in self.inputs.items() if name != "runs"}), ())
        return read | {f"{runs}/{Path(folder).name}": self.of_runs for folder in (results if runs else ())}


def parse(kinds: Iterable[type[Job]], spec: object, source: str) -> Job:
    """The job of a decoded JSON object as `Job.spec` gives it, of one of these kinds.

    What names no kind may be of any that fits. Raises `UserError` with one line per mistake.
    """
    if not isinstance(spec, dict):
        raise UserError(f"{source}: expected a job, found {type(spec).__name__}")
    if missing := [part for part in ("settings", "inputs", "out") if part not in spec]:
        raise UserError(f"{source} lacks {', '.join(missing)}; copy it from `snakemake -np` or from a {RECORD}")
    kinds = {kind.kind: kind for kind in kinds}
    kind = kinds.get(spec.get("stage", next(iter(kinds))))
    if kind is None:
        raise UserError(f"{source}: stage: {spec['stage']!r} is not allowed here; allowed: {', '.join(kinds)}")
    values = {**spec["settings"], **spec["inputs"]}
    names = {"name": "name", "code": "code", "counted": "packages", "contents": "contents"}
    values |= {names[name]: spec[name] for name in names if name in spec}
    inputs = kind.input_names()

    def place(location: list) -> list:
        part = "inputs" if location and location[0] in inputs else "settings"
        return location if location and location[0] in Job.model_fields else [part, *location]

    job = validate(kind, values, source, place)
    return job if spec["out"] == job.out else job.model_copy(update={"folder": spec["out"]})


# ---------------------------------------------------------------- records


def read_record(folder: str | Path) -> dict | None:
    """The record of a result; None where there is none that can be read."""
    try:
        record = json.loads(Path(folder, RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def is_there(folder: str | Path, key: str, files: Iterable[str] = ()) -> bool:
    """Whether the folder holds the result of this key: its record, and these files (else all that it promises) whole."""
    record = read_record(folder)
    return record is not None and record.get("key") == key and not lacking(folder, record, files)


def items(kind: str) -> Iterator[Path]:
    """Folders of results of a kind in the cache."""
    queue = [Path(CACHE, kind)]
    while queue:
        folder = queue.pop()
        with suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(folder):
                if entry.name.startswith(".") or not entry.is_dir():
                    continue
                if KEYED.fullmatch(entry.name):
                    yield Path(entry.path)
                else:
                    queue.append(Path(entry.path))


def lacking(folder: str | Path, record: dict, files: Iterable[str] = ()) -> list[str]:
    """Of these files, or else of all that a record promises, those that are missing or have another size than it says."""
    sizes = record.get("sizes", {})
    return [name for name in files or sizes if _size(Path(folder, name)) != sizes.get(name, -1)]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _plain(value: object) -> object:
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value


def _nameless(inputs: object) -> object:
    """Folders of results by kind and key: what something is called makes no difference."""
    if isinstance(inputs, str):
        return IN_CACHE.sub(r"\1-\2", inputs)
    if isinstance(inputs, dict):
        return {name: _nameless(value) for name, value in inputs.items()}
    return [_nameless(value) for value in inputs] if isinstance(inputs, list) else inputs


def _folders(inputs: object) -> Iterator[str]:
    """Every folder in a nest of lists and mappings."""
    if isinstance(inputs, str):
        yield inputs
    else:
        for part in inputs.values() if isinstance(inputs, dict) else inputs:
            yield from _folders(part)
