"""Typed, closed models of the configuration: an unknown key, a wrong type or a value out of range is an error.

`load` reads a YAML file strictly, `parse` validates a mapping; both raise `ConfigError` with one line per mistake, each
naming the key's path, the value and what is allowed. The meaning of every key is its `description`.
"""

from diversity_spectra.config.conditions import Augmentation, Combination, Conditions
from diversity_spectra.config.data import Data, Digits, ImageFolder, Ood, OodCorruption
from diversity_spectra.config.experiment import Compare, Config, Diversity, Execution, Report, Spectra, TrainedModel
from diversity_spectra.config.generator import Ddpm
from diversity_spectra.config.reading import load, parse, read_yaml, schema, validate
from diversity_spectra.config.values import ConfigError, Experiment, LocalPath, Model

__all__ = [
    "Augmentation",
    "Combination",
    "Compare",
    "Conditions",
    "Config",
    "ConfigError",
    "Data",
    "Ddpm",
    "Digits",
    "Diversity",
    "Execution",
    "Experiment",
    "ImageFolder",
    "LocalPath",
    "Model",
    "Ood",
    "OodCorruption",
    "Report",
    "Spectra",
    "TrainedModel",
    "load",
    "parse",
    "read_yaml",
    "schema",
    "validate",
]
