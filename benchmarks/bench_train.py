"""Training throughput of our loop against timm's loader and the usual loop, and its loss; writes benchmarks/train.md.

python benchmarks/bench_train.py            # about 10 minutes on 2 cores; of a GPU: bench_gpu.py
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
from diversity_spectra.finetune.job import Network, Training
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

Curve = list[float]
Run = tuple[float, Curve]  # images per second, loss of every piece of the run


def settings(batch: int, steps: int, precision: str = "float32") -> Training:
    return Training(
        steps=steps, batch_size=batch, lr=LEARNING_RATE, weight_decay=DECAY, warmup=0.1, clip=CLIP, precision=precision,
        on_divergence="record",
    )  # fmt: skip


class Clock:
    """Times at which batches were asked for."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def tick(self) -> None:
        self.times.append(time.perf_counter())

    def rate(self, batch: int) -> float:
        """Images per second from step WARM to the end."""
        return (len(self.times) - 1 - WARM) * batch / (self.times[-1] - self.times[WARM])


class Timed(Images):
    """Our images, with a clock."""

    clock: Clock

    def batch(self, *arguments: object, **named: object) -> tuple[torch.Tensor, torch.Tensor]:
        self.clock.tick()
        return super().batch(*arguments, **named)


def network_of(architecture: str, side: int) -> Network:
    return Network(architecture=architecture, channels=3, image_size=side)


def new_model(architecture: str, side: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return models.create(network_of(architecture, side), CLASSES)


def ours(
    architecture: str, data: imageset.ImageSet, batch: int, steps: int, seed: int, precision: str = "float32",
    workers: int = 0,
) -> Run:  # fmt: skip
    """The loop of stage finetune on an image set, as `finetune.command` calls it. workers: that make images."""
    side = data.images.shape[1]
    model = new_model(architecture, side, seed).to(memory_format=torch.channels_last)
    network = network_of(architecture, side)
    images = Timed(data.images, data.labels, network, models.normalisation(model), torch.device("cpu"), workers)
    images.clock = Clock()
    # A name of this process: an interrupted benchmark leaves a state that no other may go on from.
    resume = Resume(f"bench-{os.getpid()}", "state", 1e9)
    outcome = training.train(model, images, settings(batch, steps, precision), seed, resume)
    images.clock.tick()
    losses = np.repeat([row["loss"] for row in outcome.history], np.diff([0, *[r["step"] for r in outcome.history]]))
    return images.clock.rate(batch), pieces(losses)


def usual(
    architecture: str, tree: Path, side: int, batch: int, steps: int, seed: int, workers: int,
    crop: float | None = None,
) -> Run:  # fmt: skip
    """timm's loader over class folders of PNG files, and the body of its train.py: same model, optimiser and rates.

    crop: smallest share of the area that its random crops keep; none without.
    """
    from timm.data import ImageDataset, create_loader
    from timm.optim import create_optimizer_v2

    model = new_model(architecture, side, seed).train()
    mean, std = models.normalisation(model)
    loader = create_loader(
        ImageDataset(str(tree)), (3, side, side), batch, is_training=True, no_aug=crop is None, use_prefetcher=False,
        num_workers=workers, persistent_workers=True, interpolation="bicubic", mean=mean, std=std,
        scale=(crop or 1.0, 1.0), hflip=0.0, color_jitter=None,
    )  # fmt: skip
    optimiser = create_optimizer_v2(model, opt="adamw", lr=LEARNING_RATE, weight_decay=DECAY)
    loss_function = nn.CrossEntropyLoss()
    clock, losses, chosen = Clock(), [], settings(batch, steps)
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
            files, labels = folder.list_images(tree, sorted(entry.name for entry in tree.iterdir()))
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


def machine() -> str:
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision", "timm", "numpy"))
    load = f"load average when it began {os.getloadavg()[0]:.1f}"
    return f"{_processor()}, {cores} cores; Python {platform.python_version()}, {packages}; {load}."


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

{cpu}

The gain on EfficientNet-Lite0 is mostly that of the channels-last layout, which its depthwise convolutions need (1.6 to 2.1 times
by itself); the rest is reading no files.
ResNet-18 at 64 px is bound by arithmetic: in a profile 84 % of the time is spent in convolutions, and one worker keeps up with
reading, so there is little for a loop to save. `precision: bfloat16` saves it where the processor has avx512_bf16.
"""


if __name__ == "__main__":
    described = machine()
    page = PAGE.format(machine=described, repeats=REPEATS, threads=THREADS, warm=WARM, cpu=on_the_cpu())
    (Path(__file__).parent / "train.md").write_text(page)
    print(page)
