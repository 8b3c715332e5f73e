"""What one file asks for: an experiment, or a sweep of several that are variations of one base.

An experiment of a sweep starts from a file (the sweep's `base`, or a `config` of its own). On it are laid first the keys
that the sweep file holds for all experiments, then those of the experiment.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from diversity_spectra import config as configuration
from diversity_spectra.config.experiment import Config, Execution, Experiment
from diversity_spectra.report.job import Look, Report
from diversity_spectra.settings import ConfigError, LocalPath, Settings, read_yaml, validate

MARKS = {"sweep", "experiments"}  # keys that tell a sweep from an experiment


@dataclass(frozen=True)
class Experiments:
    """configs: one per experiment, all with the same `execution`. sweep: its name, or None for a single experiment.

    look: of the sweep's own figures.
    """

    configs: tuple[Config, ...]
    sweep: str | None = None
    look: Look = field(default_factory=Look)

    @property
    def name(self) -> str:
        """Of the folder in results/ whose report tells about all of it."""
        return self.sweep or self.configs[0].experiment

    @property
    def execution(self) -> Execution:
        return self.configs[0].execution


class Variation(Settings):
    """One experiment of a sweep: any key of a configuration, laid over what it starts from."""

    model_config = ConfigDict(extra="allow")
    config: LocalPath | None = Field(None, description="the file to start from, instead of the sweep's `base`")

    @model_validator(mode="after")
    def _own_keys(self) -> Variation:
        if "experiment" in self.model_extra:
            raise ValueError("`experiment` is not needed: the key in the sweep is the experiment's name")
        if "execution" in self.model_extra:
            raise ValueError("`execution` holds for the whole sweep: move it to the top level")
        return self


class Sweep(Settings):
    """A sweep file. Every further key is one of a configuration and holds for all experiments."""

    model_config = ConfigDict(extra="allow")
    sweep: Experiment = Field(description="name of the folder results/<sweep> with what compares the experiments")
    base: LocalPath | None = Field(None, description="the file that experiments start from, relative to this file")
    experiments: dict[Experiment, Variation | None] = Field(min_length=1, description="by name")
    report: Report = Report()

    @model_validator(mode="after")
    def _places(self) -> Sweep:
        if "experiment" in self.model_extra:
            raise ValueError("`experiment` has no place in a sweep, which names its experiments in `experiments`")
        known = sorted({*Sweep.model_fields, *Config.model_fields} - {"experiment"})
        for name in self.model_extra.keys() - known:  # said once: without its `base` every experiment lacks much
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
            raise ValueError(f"unknown key {name!r}; {hint}")
        taken: dict[str, str] = {}
        for name in (self.sweep, *self.experiments):
            if other := taken.get(name.lower()):
                raise ValueError(f"{other!r} and {name!r} would both be kept in results/{other}: rename one")
            taken[name.lower()] = name
        return self


def load(*paths: str | Path, changes: dict | None = None) -> Experiments:
    """Read a file strictly; on it are laid further files, then `changes`, key by key as Snakemake does.

    Raises `ConfigError` with one line per mistake.
    """
    values: dict = {}
    for found in [*map(read_yaml, paths), changes or {}]:
        values = merged(values, found)
    return parse(values, str(paths[-1]), Path(paths[-1]).parent)


def merged(base: dict, changes: dict) -> dict:
    """`changes` laid over `base`, mappings key by key."""
    both = {key: merged(base[key], change) for key, change in changes.items() if _are_mappings(base.get(key), change)}
    return {**base, **changes, **both}


def _are_mappings(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


def parse(values: dict, source: str = "config", folder: str | Path = ".") -> Experiments:
    """Validate a mapping read from a file in `folder`. Raises `ConfigError` with one line per mistake."""
    if not MARKS & values.keys():
        return Experiments((configuration.parse(values, source),))
    try:
        return _parse_sweep(values, source, Path(folder))
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply or refers to itself") from None


def overlay(base: Any, changes: Any) -> Any:
    """`changes` laid over `base`: mappings are merged key by key, everything else is replaced.

    A mapping of another `kind` replaces the whole mapping: the keys of the one mean nothing to the other. A mapping over
    a list of named entries, such as `models`, changes the entries of these names and adds new ones.
    """
    if not isinstance(changes, dict):
        return changes
    if _is_named(base):
        entries = {entry["name"]: entry for entry in base}
        entries |= {name: overlay(entries.get(name, {"name": name}), change) for name, change in changes.items()}
        return list(entries.values())
    if not isinstance(base, dict) or changes.get("kind", base.get("kind")) != base.get("kind"):
        return changes
    return {**base, **{key: overlay(base.get(key), change) for key, change in changes.items()}}


def _is_named(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in value)


def _parse_sweep(values: dict, source: str, folder: Path) -> Experiments:
    sweep = validate(Sweep, values, source)
    for_all = {key: value for key, value in values.items() if key not in {*MARKS, "base"}}
    common = overlay(_start(folder, sweep.base, f"{source}: base"), for_all)
    configs: list[Config] = []
    mistakes: dict[str, list[str]] = defaultdict(list)
    for name, variation in sweep.experiments.items():
        variation = variation or Variation()
        start = common
        if variation.config:
            start = overlay(_start(folder, variation.config, f"{source}: experiments.{name}.config"), for_all)
        fixed = {"experiment": name, "execution": common.get("execution", {})}
        try:
            merged = {**overlay(start, variation.model_extra), **fixed}
            configs.append(configuration.parse(merged, source, ("experiments", "*")))
        except ConfigError as error:
            for line in str(error).splitlines():
                mistakes[line].append(name)
    if mistakes:
        raise ConfigError("\n".join(_told(mistakes, len(sweep.experiments))))
    report = validate(Report, common.get("report", {}), source, lambda location: ["report", *location])
    return Experiments(tuple(configs), sweep.sweep, Look.of(report))


def _start(folder: Path, file: str | None, told: str) -> dict:
    """The mapping in a file that is named in a sweep file, at the place `told`."""
    if file is None:
        return {}
    try:
        values = read_yaml(folder / file)
    except ConfigError as error:
        raise ConfigError(f"{told}: {error}") from None
    if MARKS & values.keys():
        raise ConfigError(f"{told}: {folder / file} is a sweep itself; name the file of one experiment")
    return values


def _told(mistakes: dict[str, list[str]], experiments: int) -> list[str]:
    """Each mistake under its experiment's name; what all have they share, so it is told once."""
    lines = []
    for line, names in mistakes.items():
        shared = len(names) == experiments > 1
        lines += [line] if shared else [line.replace("experiments.*", f"experiments.{name}", 1) for name in names]
    return lines
