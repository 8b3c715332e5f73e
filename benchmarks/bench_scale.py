"""A dry run at the scale of the study: what each stage that works on the CPU takes in time, memory and disk.

    python benchmarks/bench_scale.py [--images 60000] [--stages data augment diversity gather compare report] [--keep FOLDER]

60,000 pictures of noise in the format of CIFAR-10, and the runs of workflow/presets/cifar10-clip-vit-b32.yaml, faked: the rows
of a ViT-B/32 with noise, predictions, a training's summary. Generation, training, evaluation and spectra are not run. Stages
are called as their rules call them, each job in a process of its own; times are those of the processor, since the machine may
be shared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from diversity_spectra import imageset
from diversity_spectra.config import read_yaml
from diversity_spectra.config.experiments import parse
from diversity_spectra.evaluate.metrics import classification_metrics
from diversity_spectra.files import sha256, write_json, write_npz
from diversity_spectra.jobs import RECORD
from diversity_spectra.planning import bill
from diversity_spectra.planning.order import Order
from diversity_spectra.planning.orders import orders
from diversity_spectra.planning.steps import Step, Work

ROOT = Path(__file__).parent.parent
PRESET = ROOT / "workflow/presets/cifar10-clip-vit-b32.yaml"
STAGES = ("data", "augment", "diversity", "gather", "compare", "report")
TABLES = ("gather", "compare", "report")  # never faked
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# torchvision compares the files with digests of the real ones.
ENTRY = """
import sys
from torchvision.datasets import CIFAR10
CIFAR10._check_integrity = lambda self: True
from torchvision.datasets import cifar
cifar.check_integrity = lambda *arguments: True
from diversity_spectra.cli import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass
class Cost:
    """Of one job: processor and wall seconds, largest memory in MB, bytes on the disk."""

    name: str
    processor: float
    wall: float
    memory: float
    disk: int


def fake_cifar(root: Path, images: int) -> None:
    """`images` pictures of smooth noise, five sixths of them in the five training files."""
    folder, random = root / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        count = images // 6
        coarse = random.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
        pixels = coarse.repeat(4, axis=2).repeat(4, axis=3) // 2 + random.integers(0, 128, (count, 3, 32, 32), np.uint8)
        (folder / name).write_bytes(
            pickle.dumps({"data": pixels.reshape(count, -1), "labels": [i % 10 for i in range(count)]})
        )
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": CLASSES}))


def configuration(images: int) -> dict:
    """The preset, without what the hub would have to give."""
    config = read_yaml(PRESET)
    per_class = images // 60
    config["models"][0]["weights"] = "none"
    config["generator"]["images_per_class"] = 5 * per_class
    config["diversity"] = {"embedding": "none", "per_class": min(1000, 4 * per_class), "subsamples": 10}
    return config | {"experiment": "scale"}


# ---------------------------------------------------------------- what is faked


class Faked:
    """Results of runs and of the generator, with the records that the plan looks for."""

    def __init__(self, images: int):
        from safetensors.torch import save_file

        from diversity_spectra.finetune import models
        from diversity_spectra.finetune.job import Network
        from diversity_spectra.spectra.options import Options
        from diversity_spectra.spectra.table import analyse

        self.images, self.random = images, np.random.default_rng(0)
        network = Network(architecture="vit_base_patch32_clip_224", image_size=224)
        with tempfile.TemporaryDirectory() as place:
            before, after = (Path(place, f"{name}.safetensors") for name in ("before", "after"))
            for path in (before, after):
                model = models.create(network, 10)
                save_file(model.state_dict(), path)
            self.layers = models.layers(model)
            found = analyse(after, before, Options())
        self.rows, self.eigenvalues = found.rows, found.eigenvalues

    def make(self, step: Step) -> None:
        for folder in map(Path, step.open):
            folder.mkdir(parents=True)
            getattr(self, f"_{step.job.kind}", self._nothing)(step, folder)
            now = datetime.now(UTC).isoformat()
            files = [*folder.iterdir()]
            record = {
                "outputs": {path.name: sha256(path) for path in files},
                "sizes": {path.name: path.stat().st_size for path in files},
                "work": {"kind": "faked", "units": 1},
            }
            write_json(folder / RECORD, {**step.job.spec, **record, "started": now, "ended": now, "startup": 0.0})

    def _nothing(self, step: Step, folder: Path) -> None:
        for name in step.job.makes:
            (folder / name).touch()

    def _finetune(self, step: Step, folder: Path) -> None:
        self._nothing(step, folder)
        run = {
            "kappa": 1.0, "kappas": {}, "train_loss": 0.1, "train_accuracy": 0.97, "steps": 977, "diverged": False,
            "micro_batch": 512, "parameters": 87_000_000, "dropout_places": [], "layers": self.layers,
        }  # fmt: skip
        write_json(folder / "run.json", run)
        course = np.arange(1, 21)
        history = {"step": course * 48, "loss": 2 / course, "accuracy": 1 - 0.5 / course, "lr": 1e-5}
        pd.DataFrame(history).to_parquet(folder / "history.parquet", index=False)

    def _evaluate(self, step: Step, folder: Path) -> None:
        count = self.images // 6
        labels, rows = np.arange(count) % 10, []
        for name in step.job.sets:
            logits = self.random.normal(0, 1, (count, 10)).astype(np.float32)
            logits[np.arange(count), labels] += 3 + 0.02 * self.random.normal()
            shift = "none" if name == "test" else "synthetic" if name == "synthetic" else "corruption"
            rows.append({"set": name, "shift": shift, **classification_metrics(logits, labels)})
        write_npz(folder / "predictions.npz", {})
        pd.DataFrame(rows).to_parquet(folder / "metrics.parquet", index=False)

    def _spectra(self, step: Step, folder: Path) -> None:
        rows, shift = self.rows.copy(), 0.02 * (sum(map(ord, step.job.name)) % 7 - 3)
        for column in rows.select_dtypes("float64"):
            rows[column] *= 1 + 0.01 * self.random.normal(shift, 1, len(rows))
        rows.to_parquet(folder / "rows.parquet", index=False)
        write_npz(folder / "eigenvalues.npz", self.eigenvalues)

    def _data(self, step: Step, folder: Path) -> None:
        count = 5 * self.images // 6 if step.job.name.endswith("train") else self.images // 6
        pixels = self.random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        manifest, meta = pd.DataFrame({"source": np.arange(count)}), {"classes": CLASSES, "source": {}}
        imageset.save(folder, pixels, np.arange(count) % 10, manifest, meta)

    def _diversity(self, step: Step, folder: Path) -> None:
        kernels, orders, labels = ("pixel", "pixel_centred"), ("1", "2", "inf"), ("mean", "overall", *CLASSES)
        rows = pd.DataFrame(itertools.product(kernels, orders, labels), columns=["kernel", "order", "label"]).assign(
            n=1000
        )
        rows["score"] = 9 + self.random.normal(size=len(rows))
        rows["low"], rows["high"] = rows["score"] - 0.5, rows["score"] + 0.5
        rows.to_parquet(folder / "scores.parquet", index=False)
        empty = pd.DataFrame(columns=["measure", "label", "value", "low", "high", "n"])
        empty.to_parquet(folder / "quality.parquet", index=False)

    def _generate(self, step: Step, folder: Path) -> None:
        count = 5 * self.images // 6
        pixels = self.random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        manifest = pd.DataFrame({"index": np.arange(count), "label": np.arange(count) % 10, "kept": True, "seed": 0})
        meta = {"classes": CLASSES, "source": {"kind": "text_to_image"}, "drawn": count, "rejected": 0}
        imageset.save(folder, pixels, np.arange(count) % 10, manifest, meta)


# ---------------------------------------------------------------- what is run


def run(step: Step, order_of: Callable[[str, str], Order]) -> Cost:
    """One step as its rule runs it."""
    order = order_of(step.job.kind, step.job.item)
    seed = step.wildcards[1] if len(step.wildcards) > 1 else None
    entry = ["-c", ENTRY] if step.job.kind == "data" else ["-m", "diversity_spectra.cli"]
    command = [sys.executable, *entry, *step.job.command.split(), *order.command(seed).split()]
    log = Path("logs") / f"{step.job.kind}-{step.job.name.replace('/', '-')}.log"
    log.parent.mkdir(exist_ok=True)
    start = time.monotonic()
    with log.open("w") as stream:
        threads = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(order.threads))}
        process = subprocess.Popen(command, stderr=stream, env=threads)  # as Snakemake sets them
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{step.told}: {log.read_text()[-2000:]}")
    size = sum(path.stat().st_size for path in Path(step.job.out).rglob("*") if path.is_file())
    cost = Cost(step.job.name, used.ru_utime + used.ru_stime, time.monotonic() - start, used.ru_maxrss / 1024, size)
    print(f"{step.told}: {cost.processor:.1f} s, {cost.wall:.1f} s by the clock, {cost.memory:.0f} MB", flush=True)
    return cost


def table(costs: dict[str, list[Cost]]) -> str:
    lines = ["| stage | jobs | processor | of the longest job | largest memory | disk |", "|---|---|---|---|---|---|"]
    for stage, of in costs.items():
        longest = max(of, key=lambda cost: cost.processor)
        cells = (
            stage, str(len(of)), bill.duration(sum(cost.processor for cost in of)),
            f"{bill.duration(longest.processor)} ({longest.name})", f"{max(cost.memory for cost in of):.0f} MB",
            bill.size(sum(cost.disk for cost in of)),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chosen(step: Step, arguments: argparse.Namespace) -> bool:
    """Is the step run, not faked?"""
    kind = step.job.kind
    only = arguments.only if kind in ("augment", "diversity") else ""
    return kind in arguments.stages and step.job.name.startswith(only)


def fake(arguments: argparse.Namespace) -> None:
    """Make what is not run but needed."""
    faked = None
    for step in Work(parse(configuration(arguments.images))).to_do:
        if not chosen(step, arguments) and step.job.kind not in TABLES:
            faked = faked or Faked(arguments.images)
            faked.make(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=60_000, help="pictures in all, a sixth of them for tests")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        help="stages to run; of the others what is needed is faked",
    )
    parser.add_argument("--only", default="", help="of stages augment and diversity, sets whose names begin so")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    arguments = parser.parse_args()
    place = arguments.keep or Path(tempfile.mkdtemp(prefix="scale-"))
    place.mkdir(parents=True, exist_ok=True)
    environment = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{ROOT / 'workflow'}:{environment}"
    os.chdir(place)
    if not Path("datasets").exists():
        fake_cifar(Path("datasets"), arguments.images)
    # In a process of its own: the largest memory of a job is at least that of the process which starts it.
    faking = multiprocessing.get_context("spawn").Process(target=fake, args=(arguments,))
    faking.start()
    faking.join()
    work = Work(parse(configuration(arguments.images)))
    order_of, costs = orders(work), {}
    for step in work.to_do:
        if chosen(step, arguments):
            costs.setdefault(step.job.kind, []).append(run(step, order_of))
    print(f"\n{arguments.images:,} images, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}\n")
    print(table({stage: costs[stage] for stage in STAGES if stage in costs}))
    print(json.dumps({stage: [vars(cost) for cost in of] for stage, of in costs.items()}), file=sys.stderr)
    if not arguments.keep:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
