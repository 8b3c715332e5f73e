"""Images that a process augments in a second of its own time, and what several processes make of a second: by kind and side.

    python benchmarks/bench_augment.py [--images 200] [--processes 2]

Times of one process are those of the processor, so that other work on the machine does not count; the last column is by the
clock, and means something on an idle machine only.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch

from diversity_spectra.augment.job import Augment, DataRecipe, Step
from diversity_spectra.augment.kinds import KINDS
from diversity_spectra.augment.variants import Variants
from diversity_spectra.imageset import ImageSet, new_images

LEVELS = {
    "gaussian_noise": 0.1, "rotation": 20.0, "resized_crop": 0.5, "random_erasing": 0.3, "color_jitter": 0.4,
    "randaugment": 9.0, "augmix": 3.0,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=200, help="of 32 px; a quarter as many of 224 px")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, {arguments.images} images of 32 px\n")
    print(f"| kind | side | images/s of processor, 1 process | by the clock: 1, {arguments.processes} processes |")
    print("|---|---|---|---|")
    for side, count in ((32, arguments.images), (224, arguments.images // 4)):
        pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        real = ImageSet(pixels, np.zeros(count, np.int64), {"classes": ["a"]})
        for kind in (kind for kind in KINDS if kind in LEVELS):
            recipe = DataRecipe(augmentations=[Step(kind=kind, level=LEVELS[kind])])
            made = Variants(Augment(recipe=recipe, images="none"), real, None)
            _ = made[:4]  # imports
            rates = []
            with tempfile.TemporaryDirectory() as folder:
                for processes in (0, arguments.processes):
                    images = new_images(Path(folder), made.shape)
                    clock, processor = time.perf_counter(), time.process_time()
                    deque(made.write(images, workers=processes), maxlen=0)  # as the stage does
                    rates += [count / (time.process_time() - processor)] if processes == 0 else []
                    rates.append(count / (time.perf_counter() - clock))
            print(f"| {kind} | {side} | {rates[0]:.0f} | {rates[1]:.0f}, {rates[2]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
