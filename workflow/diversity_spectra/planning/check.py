"""`check`: validate a configuration or a sweep without running anything."""

from __future__ import annotations

import argparse
import json

from diversity_spectra.config import schema
from diversity_spectra.config.experiments import load
from diversity_spectra.files import atomic_file
from diversity_spectra.planning import foresee
from diversity_spectra.planning.show import pictures
from diversity_spectra.planning.steps import Work


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--configfile", default="config.yaml", help="configuration to check (default: %(default)s)")
    parser.add_argument("--write-schema", metavar="FILE", help="write the JSON schema for editors and stop")
    parser.epilog = "example: diversity-spectra check --configfile config.yaml"


def run(arguments: argparse.Namespace) -> None:
    if arguments.write_schema:
        with atomic_file(arguments.write_schema) as temporary:
            temporary.write_text(json.dumps(schema(), indent=2) + "\n")
        return
    experiments = load(arguments.configfile)
    work = Work(experiments)
    for config in experiments.configs:
        for line in pictures(config.data):
            print(line)
    for note in dict.fromkeys(
        [*work.notes, *(note for config in experiments.configs for note in foresee.notes(config))]
    ):
        print(f"note: {note}")
    names = ", ".join(config.experiment for config in experiments.configs)
    sweep = f"sweep {experiments.sweep}: " if experiments.sweep else ""
    print(f"{arguments.configfile}: good ({sweep}{names})")
