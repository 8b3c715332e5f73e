"""Training throughput of our loop against timm's loader and the usual loop, and its loss; writes benchmarks/train.md.

python benchmarks/bench_train.py            # about 10 minutes on 2 cores; with a GPU also ViT-B/32 in bfloat16
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from diversity_spectra import imageset
from diversity_spectra.data import digits, folder
from diversity_spectra.finetune import models, training
from diversity_spectra.finetune.images import Images
from diversity_spectra.resume import Resume

REPEATS = 5
CLASSES = 10
WARM = 5  # first steps of a run that are not timed
THREADS = 1  # of torch, as in the workflow, which starts a process per core
WORKERS = (1, 2)
LEARNING_RATE, DECAY, CLIP = 1e-3, 0.05, 1.0
# architecture, side in pixels, batch, steps, lower precision worth a try (depthwise convolutions in bfloat16 are slow)
CASES = (("tf_efficientnet_lite0", 32, 32, 64, None), ("resnet18", 64, 64, 24, "bfloat16"))
PIECES = 8  # of the loss curve
GPU = ("vit_base_patch32_224", 224, 256, 60)

Curve = list[float]
Run = tuple[float, Curve]  # images per second, loss of every piece of the run


def settings(batch: int, steps: int, precision: str = "float32") -> dict:
    return {
        "steps": steps,
        "batch_size": batch,
        "lr": LEARNING_RATE,
        "warmup": 0.1,
        "clip": CLIP,
        "freeze_norm": False,
        "precision": precision,
        "flip": False,
        "label_smoothing": 0.0,
        "on_divergence": "record",
        "weight_decay": DECAY,
        "seed": 0,
    }


class Clock:
    """Times at which batches were asked for."""

    def __init__(self, device: torch.device):
        self.times: list[float] = []
        self.device = device

    def tick(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def rate(self, batch: int) -> float:
        """Images per second from step WARM to the end."""
        return (len(self.times) - 1 - WARM) * batch / (self.times[-1] - self.times[WARM])


class Timed(Images):
    """Our images, with a clock."""

    clock: Clock

    def batch(self, indices: torch.Tensor, flipped: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if self.device.type == "cpu" or len(self.clock.times) in (0, WARM):
            self.clock.tick()
        else:
            self.clock.times.append(0.0)  # a GPU is not made to wait
        return super().batch(indices, flipped)


class Random(Timed):
    """One batch that lies on the device already, whatever is asked for."""

    def batch(self, indices: torch.Tensor, flipped: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if not hasattr(self, "ready"):
            self.ready = Images.batch(self, indices)
        if len(self.clock.times) in (0, WARM):
            self.clock.tick()
        else:
            self.clock.times.append(0.0)
        return self.ready


def new_model(architecture: str, side: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return models.create({"architecture": architecture, "channels": 3, "image_size": side}, CLASSES)


def ours(
    architecture: str, data: imageset.ImageSet, batch: int, steps: int, seed: int, kind: type[Timed] = Timed, **where
) -> Run:
    """The loop of stage finetune on a memory-mapped image set, as `finetune.command` calls it."""
    device, side = where.get("device", torch.device("cpu")), data.images.shape[1]
    model = new_model(architecture, side, seed).to(device).to(memory_format=torch.channels_last)
    images = kind(data.images, data.labels, side, "bicubic", 3, models.normalisation(model), device)
    images.clock = Clock(device)
    chosen = settings(batch, steps, where.get("precision", "float32"))
    # A name of this process: an interrupted benchmark leaves a state that no other may go on from.
    outcome = training.train(model, images, chosen, seed, Resume(f"bench-{os.getpid()}", "state", 1e9))
    images.clock.tick()
    losses = np.repeat([row["loss"] for row in outcome.history], np.diff([0, *[r["step"] for r in outcome.history]]))
    return images.clock.rate(batch), pieces(losses)


def usual(architecture: str, tree: Path, side: int, batch: int, steps: int, seed: int, workers: int) -> Run:
    """timm's loader over class folders of PNG files, and the body of its train.py: same model, optimiser and rates."""
    from timm.data import ImageDataset, create_loader
    from timm.optim import create_optimizer_v2

    model = new_model(architecture, side, seed).train()
    mean, std = models.normalisation(model)
    loader = create_loader(
        ImageDataset(str(tree)), (3, side, side), batch, is_training=True, no_aug=True, use_prefetcher=False,
        num_workers=workers, persistent_workers=True, interpolation="bicubic", mean=mean, std=std,
    )  # fmt: skip
    optimiser = create_optimizer_v2(model, opt="adamw", lr=LEARNING_RATE, weight_decay=DECAY)
    loss_function = nn.CrossEntropyLoss()
    clock, losses, chosen = Clock(torch.device("cpu")), [], settings(batch, steps)
    while len(losses) < steps:
        for images, labels in loader:
            clock.tick()
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate(len(losses), chosen)
            loss = loss_function(model(images), labels)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            losses.append(loss.item())
            if len(losses) == steps:
                break
    clock.tick()
    return clock.rate(batch), pieces(losses)


def pieces(losses: list[float]) -> Curve:
    return [float(np.mean(part)) for part in np.array_split(losses, PIECES)]


def write_tree(root: Path, side: int) -> None:
    """The 5,000 embedded digits as RGB files, one folder per class."""
    images, labels = digits.mnist()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = root / str(label)
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
        picture.save(place / f"{index:04d}.png")


def on_the_cpu() -> str:
    """Table of throughput, and the losses."""
    torch.set_num_threads(THREADS)
    table = ["| | images/s: median (all) | ratio of medians to it |", "|---|---|---|"]
    curves = []
    for architecture, side, batch, steps, lower in CASES:
        with tempfile.TemporaryDirectory() as place:
            tree, prepared = Path(place) / "tree", Path(place) / "set"
            write_tree(tree, side)
            prepared.mkdir()
            files, labels = folder.list_images(tree, folder.list_classes(tree))
            start = time.perf_counter()
            images, _ = folder.read_images(files, side, prepared)
            preparing = time.perf_counter() - start
            data = imageset.ImageSet(images, labels, {})
            fixed = (architecture, data, batch, steps)
            loops: dict[str, Callable[[int], Run]] = {"ours": lambda seed, c=fixed: ours(*c, seed)}
            if lower:
                loops[f"ours, precision {lower}"] = lambda seed, c=fixed, p=lower: ours(*c, seed, precision=p)
            for workers in WORKERS:
                fixed = (architecture, tree, side, batch, steps)
                loops[f"timm loader, {workers} worker(s)"] = lambda seed, c=fixed, w=workers: usual(*c, seed, w)
            runs: dict[str, list[Run]] = {name: [] for name in loops}
            for repeat in range(REPEATS):
                for name, loop in loops.items():
                    runs[name].append(loop(repeat))
                    print(architecture, name, f"{runs[name][-1][0]:.1f} images/s", flush=True)
        medians = {name: statistics.median(rate for rate, _ in of) for name, of in runs.items()}
        for name, of in runs.items():
            ratio = f"{medians['ours'] / medians[name]:.2f}" if "timm" in name else ""
            listed = ", ".join(f"{rate:.0f}" for rate, _ in of)
            table.append(
                f"| {architecture}, {side} px, batch {batch}: {name} | {medians[name]:.0f} ({listed}) | {ratio} |"
            )
        best = max(value for name, value in medians.items() if "timm" in name)
        table.append(f"| {architecture}: ours over the faster of the others | | **{medians['ours'] / best:.2f}** |")
        print("\n".join(table))
        curves.append(_curves(architecture, runs, steps))
        table.append(f"| {architecture}: reading 5,000 files into the memory map, once | {preparing:.1f} s | |")
    return "\n".join(table) + "\n\nLoss, mean +- standard deviation over the repeats:\n\n" + "\n\n".join(curves)


def _curves(architecture: str, runs: dict[str, list[Run]], steps: int) -> str:
    head = f"| {architecture}: {steps // PIECES} steps each | " + " | ".join(str(k + 1) for k in range(PIECES)) + " |"
    lines = [head, "|---" * (PIECES + 1) + "|"]
    for name, of in runs.items():
        cells = [f"{np.mean(part):.3f} +- {np.std(part, ddof=1):.3f}" for part in zip(*(c for _, c in of), strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def on_the_gpu(architecture: str, side: int, batch: int, steps: int, device: torch.device, count: int = 4096) -> str:
    """Our loop, from the device and from the memory map, against the same step on a batch that is there already."""
    from diversity_spectra.finetune import images as module

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        pixels = imageset.new_images(Path(place), (count, side, side, 3))
        pixels[:] = random.integers(0, 256, pixels.shape, dtype=np.uint8)
        data = imageset.ImageSet(pixels, np.arange(count) % CLASSES, {})
        held = module.ON_DEVICE_BYTES
        runs: dict[str, list[float]] = {}
        for repeat in range(REPEATS):
            for name, kind, limit in (
                ("batch on the device", Random, held),
                ("ours, set on the device", Timed, held),
                ("ours, from the memory map", Timed, 0),
            ):
                module.ON_DEVICE_BYTES = limit
                where = {"device": device, "precision": "bfloat16"}
                rate, _ = ours(architecture, data, batch, steps, repeat, kind, **where)
                runs.setdefault(name, []).append(rate)
        module.ON_DEVICE_BYTES = held
    medians = {name: statistics.median(rates) for name, rates in runs.items()}
    lines = [
        f"| {architecture}, {side} px, batch {batch}, bfloat16 | images/s: median (all) | share |",
        "|---|---|---|",
    ]
    for name, rates in runs.items():
        listed = ", ".join(f"{rate:.0f}" for rate in rates)
        lines.append(
            f"| {name} | {medians[name]:.0f} ({listed}) | {medians[name] / medians['batch on the device']:.1%} |"
        )
    return "\n".join(lines)


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "timm", "numpy"))
    gpu = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "; no GPU"
    load = f"load average when it began {os.getloadavg()[0]:.1f}"
    return f"{_processor()}, {cores} cores{gpu}; Python {platform.python_version()}, {packages}; {load}."


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


PAGE = """# Training: throughput and loss

    python benchmarks/bench_train.py

{machine}
{repeats} repeats of each loop, alternating in one process; torch has {threads} thread, the workflow's default.

*Ours* is `finetune.training.train` on a memory-mapped image set, as the workflow calls it. The *timm loader* is
`timm.data.create_loader` over class folders of PNG files (no augmentation, its own resize, crop and normalisation, persistent
workers) in the body of timm's `train.py`, with the optimiser that timm makes. Both take the same initial weights, AdamW with
decay on matrices only, rates, clipping, batch and number of steps; the order of the images is each loop's own. timm's workers
are further processes, on the other cores. The first {warm} steps of a run are not timed, so no start-up counts.
Data: 5,000 digits.

## CPU

{cpu}

The gain on EfficientNet-Lite0 is mostly that of the channels-last layout, which its depthwise convolutions need (1.6 to 2.1 times
by itself); the rest is reading no files.
ResNet-18 at 64 px is bound by arithmetic: in a profile 84 % of the time is spent in convolutions, and one worker keeps up with
reading, so there is little for a loop to save. `precision: bfloat16` saves it where the processor has avx512_bf16.

## GPU

{gpu}
"""


if __name__ == "__main__":
    described = machine()
    gpu = "Not measured: no GPU on this machine."
    if torch.cuda.is_available():
        gpu = on_the_gpu(*GPU, torch.device("cuda"))
    page = PAGE.format(machine=described, repeats=REPEATS, threads=THREADS, warm=WARM, cpu=on_the_cpu(), gpu=gpu)
    (Path(__file__).parent / "train.md").write_text(page)
    print(page)
