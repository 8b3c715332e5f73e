"""The configuration: what one experiment is, and what a sweep of several is. Sections are the models of the stages.

`parse` validates a mapping, `load` reads a file; both raise `ConfigError` with one line per mistake, each naming the key's
path, the value and what is allowed. The meaning of every key is its `description`.
"""

from __future__ import annotations

from pathlib import Path

from diversity_spectra import settings
from diversity_spectra.config.experiment import Config, Execution, TrainedModel
from diversity_spectra.settings import ConfigError, read_yaml, validate

__all__ = ["Config", "ConfigError", "Execution", "TrainedModel", "load", "parse", "read_yaml", "schema"]


def load(path: str | Path) -> Config:
    return parse(read_yaml(path), source=str(path))


def parse(values: dict, source: str = "config", inside: tuple[str, ...] = ()) -> Config:
    """Validate a mapping that stands at the place `inside` of a file. Raises `ConfigError` with one line per mistake."""
    return validate(Config, values, source, lambda location: [*inside, *location])


def schema() -> dict:
    """JSON schema of the configuration, for editors."""
    return settings.schema(Config)
