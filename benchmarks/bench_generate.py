"""Images per second of our sampling against a plain diffusers loop, one call per image; writes benchmarks/generate.md.

python benchmarks/bench_generate.py            # about 5 minutes on 2 cores
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import tiny_pipelines

from diversity_spectra.generate import ddpm, pipeline
from diversity_spectra.generate.kind import Source
from diversity_spectra.generate.kinds import parse
from diversity_spectra.imageset import ImageSet

REPEATS = 5
BATCHES = (1, 8, 64)
THREADS = 1  # of torch, as in the workflow, which starts a process per core
IMAGES = 64
CLASSES = 10
DDPM = {"kind": "ddpm", "images_per_class": IMAGES, "inference_steps": 10, "guidance": 1.5}
DIFFUSION = {
    "kind": "text_to_image",
    "revision": None,
    "images_per_class": IMAGES,
    "prompts": ["a photo of a {name}"],
    "negative_prompt": "",
    "guidance": 7.5,
    "inference_steps": 10,
    "scheduler": None,
    "image_size": 32,
    "dtype": "float32",
    "redraws": 0,
}

Loop = Callable[[], object]


def ours(source: Source, batch: int) -> Loop:
    """What stage generate does with a shard, at this batch size."""
    size = source.tile * math.ceil(batch / source.tile)
    return lambda: [source.draw(piece) for piece in np.split(np.arange(IMAGES), range(size, IMAGES, size))]


@torch.inference_mode()
def plain_ddpm(model, device: torch.device) -> None:
    """The same sampler, solver, steps and guidance, image by image."""
    shape = (1, model.config.in_channels, model.config.sample_size, model.config.sample_size)
    nothing = torch.tensor([CLASSES], device=device)
    for index in range(IMAGES):
        steps = ddpm.scheduler()
        steps.set_timesteps(DDPM["inference_steps"], device=device)
        image = torch.randn(shape, generator=torch.Generator().manual_seed(index)).to(device)
        label = torch.tensor([index % CLASSES], device=device)
        for moment in steps.timesteps:
            without = model(image, moment, class_labels=nothing).sample
            predicted = without + DDPM["guidance"] * (model(image, moment, class_labels=label).sample - without)
            image = steps.step(predicted, moment, image).prev_sample
        ((image.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()


def plain_pipeline(diffusion, names: list[str]) -> None:
    for index in range(IMAGES):
        diffusion(
            f"a photo of a {names[index % CLASSES]}", negative_prompt="", height=32, width=32, output_type="np",
            guidance_scale=DIFFUSION["guidance"], num_inference_steps=DIFFUSION["inference_steps"],
            generator=torch.Generator("cpu").manual_seed(index),
        )  # fmt: skip


def measured(loops: dict[str, Loop]) -> list[str]:
    """Lines of the table: the loops alternate, after one run of each that does not count."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for repeat in range(REPEATS + 1):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop()
            if repeat:
                times[name].append(IMAGES / (time.perf_counter() - start))
                print(name, f"{times[name][-1]:.2f} images/s", flush=True)
    medians = {name: statistics.median(rates) for name, rates in times.items()}
    base = next(iter(medians.values()))
    return [
        f"| {name} | {medians[name]:.2f} ({', '.join(f'{rate:.2f}' for rate in rates)}) | {medians[name] / base:.2f} |"
        for name, rates in times.items()
    ]


def table(device: torch.device) -> str:
    lines = ["| | images/s: median (all) | ratio to the plain loop |", "|---|---|---|"]
    names = [f"{letter} cat" for letter in "abcdefghij"]
    real = ImageSet(np.zeros((CLASSES, 28, 28, 1), np.uint8), np.arange(CLASSES), {"classes": names})
    with tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        ddpm.network((28, 28, 1), CLASSES, [24, 48]).save_pretrained(f"{place}/generator/unet")
        trained = ddpm.Trained(parse(DDPM), f"{place}/generator", real, 0, device)
        loops: dict[str, Loop] = {"ddpm: plain loop": lambda: plain_ddpm(trained.model, device)}
        lines += measured(loops | {f"ddpm: ours, batch {batch}": ours(trained, batch) for batch in BATCHES})
        folder = tiny_pipelines.stable_diffusion(Path(place))
        diffusion = pipeline.Pipeline(parse({**DIFFUSION, "model": str(folder)}), real, 0, device)
        loops = {"Stable Diffusion: plain loop": lambda: plain_pipeline(diffusion.pipeline, names)}
        lines += measured(
            loops | {f"Stable Diffusion: ours, batch {batch}": ours(diffusion, batch) for batch in BATCHES}
        )
    return "\n".join(lines)


PAGE = """# Generation: images per second

    python benchmarks/bench_generate.py

{machine}, {cores} cores, device {device}; Python {python}, torch {torch}, diffusers {diffusers}; load average when it began {load:.1f}.
{images} images a run, {repeats} repeats, alternating in one process; torch has {threads} thread.

The *plain loop* calls the model, or the pipeline, once per image. *Ours* draws a shard as stage generate does; `batch` is
`execution.generate_batch`. Weights are random: they take the time that trained ones take. `ddpm` is the default generator
(28 px, 10 steps, guidance 1.5), *Stable Diffusion* a pipeline of that kind with a very small network (10 steps), so that it
measures the way around the network and not the network.

{table}

`ddpm` draws in tiles of {tile} images whatever the batch, so that an image has the same bits in every batch. On a CPU a
pipeline draws one by one for the same reason: there the ratio shows what our way around the call costs, which is nothing beside a
real network.
"""


if __name__ == "__main__":
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    torch.set_num_threads(THREADS)
    chosen = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with Path("/proc/cpuinfo").open() as info:
        machine = next((x.split(":")[1].strip() for x in info if x.startswith("model name")), platform.machine())
    page = PAGE.format(
        machine=machine, cores=cores, threads=THREADS, load=load, python=platform.python_version(), images=IMAGES, repeats=REPEATS,
        device=torch.cuda.get_device_name() if chosen.type == "cuda" else "cpu", tile=ddpm.TILE[chosen.type], table=table(chosen),
        torch=metadata.version("torch"), diffusers=metadata.version("diffusers"),
    )  # fmt: skip
    (Path(__file__).parent / "generate.md").write_text(page)
    print(page)
