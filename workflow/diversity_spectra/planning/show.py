"""`plan`: what a configuration asks for and what it will take, before anything is run."""

from __future__ import annotations

import argparse
from pathlib import Path

from diversity_spectra.config.experiments import load
from diversity_spectra.data.job import Data, ImageFolder
from diversity_spectra.planning import rates, upgrades
from diversity_spectra.planning.bill import bill
from diversity_spectra.planning.plan import Plan, Runs
from diversity_spectra.planning.steps import Work
from diversity_spectra.settings import written

EPILOG = """examples:
  diversity-spectra plan --configfile tests/configs/tiny.yaml
  diversity-spectra plan --configfile workflow/presets/cifar10-clip-vit-b32.yaml --rates docs/scale-rates.json --on 3090 --devices 1,2,4,8
"""

SHOWN_CLASSES = 12


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--configfile", default="config.yaml", help="configuration (default: %(default)s)")
    add("--report", action="store_true", help="print only the path of the report")
    add("--on", metavar="DEVICE", help="estimate for this device: cpu, or a GPU of past runs by a part of its name")
    add("--devices", type=_numbers, default=(), metavar="N,N,...", help="wall time on so many GPUs or CPU processes")
    add(
        "--rates",
        type=Path,
        metavar="FILE",
        help="rates to estimate with, instead of those of the results that are there and those shipped",
    )
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace) -> None:
    experiments = load(arguments.configfile)
    if arguments.report:
        print(f"results/{experiments.name}/report.html")
        return
    work = Work(experiments)
    known = rates.load(arguments.rates) if arguments.rates else rates.known()
    print("\n".join([*describe(work), *bill(work, known, arguments.on, arguments.devices), *_notes(work)]))


def describe(work: Work) -> list[str]:
    sweep = work.experiments.sweep
    lines = [f"sweep {sweep} -> results/{sweep}/report.html", ""] if sweep else []
    for own in work.plans:
        lines += [*_experiment(own), ""]
    return lines


def _experiment(made: Plan) -> list[str]:
    lines = [f"experiment {made.config.experiment} -> results/{made.config.experiment}/report.html", ""]
    if images := pictures(made.config.data):
        lines += [*images, ""]
    for model in made.config.models:
        runs = [run for run in made.runs if run.model is model]
        total = sum(len(run.seeds) for run in runs)
        lines.append(
            f"model {model.name}: {model.architecture}, weights {model.weights}, {model.steps} steps of {model.batch_size};"
            f" {len(runs)} conditions, {total} runs"
        )
        lines += [f"  {run.condition.name:<40} {_runs(len(run.seeds))} {_trained_on(run)}" for run in runs]
        if model.tune:
            rates = ", ".join(map(written, model.tune.lr))
            lines.append(
                f"  the learning rate is chosen of {rates}: {model.tune.seeds} plain trainings each, judged on images set aside"
            )
        lines.append("")
    lines.append("training sets: " + ", ".join(made.training_sets))
    lines.append("test sets: " + ", ".join(made.test_sets))
    return lines


def pictures(data: Data) -> list[str]:
    """What lies in the user's folder of images: how many of each class, by part."""
    if not isinstance(data, ImageFolder):
        return []
    parts = data.per_class()
    does = {"train": "to train on", "validation": "set aside", "pool": "for the generator", "test": "to test on"}
    lines = [
        f"  {sum(found.values())} {does[part]}: {_of_classes(found)}"
        for part, found in parts.items()
        if any(found.values())
    ]
    return [f"images of {data.path}, {len(parts['train'])} classes:", *lines] if lines else []


def _of_classes(found: dict[str, int]) -> str:
    """All numbers where there are few classes, the extremes where there are many."""
    few, many = min(found, key=found.get), max(found, key=found.get)
    if found[few] == found[many]:
        return f"{found[few]} of each class"
    if len(found) > SHOWN_CLASSES:
        return f"from {found[few]} of {few} to {found[many]} of {many}"
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _runs(number: int) -> str:
    return f"{number:>5} run" + " s"[number > 1]


def _trained_on(run: Runs) -> str:
    return f"of {run.condition.checkpoint}" if run.condition.checkpoint else f"on {run.training_set}"


def _notes(work: Work) -> list[str]:
    return [f"note: {note}" for note in [*work.notes, *upgrades.notes(work)]]


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,2,4,8")
    return [int(part) for part in parts]
