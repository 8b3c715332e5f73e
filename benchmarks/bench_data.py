"""Reading a folder of JPEG files: our data stage beside torchvision's ImageFolder; writes benchmarks/data.md.

    python benchmarks/bench_data.py [--images 5000]

The files are made here: smooth noise of photographs' sizes, quality 90.
"""

from __future__ import annotations

import argparse
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
from torchvision import datasets
from torchvision.transforms import v2

from diversity_spectra.data import folder

SIDE, SIZE, CLASSES, REPEATS = 224, (500, 375), 10, 2
PROCESSES = (1, 2)
PAGE = """# Reading images

    python benchmarks/bench_data.py

{count:,} JPEG files of {size[0]} x {size[1]} px (smooth noise, quality 90, {kilobytes:.0f} kB on average) in {classes} class folders, to
{side} px. {machine}; load average when it began {load:.1f}. {repeats} repeats, alternating; the files
were in the page cache.

*Ours* is `data.folder.read_images`, as stage `data` calls it with so many `--threads`: EXIF, transparency and damaged files looked
after, bicubic with antialiasing, crop, into the memory map on disk. *torchvision* is `datasets.ImageFolder` with resize and
centre crop (bicubic) through a `DataLoader` of batches of 64 with so many workers, its uint8 tensors dropped.

| | images/s: median (all) |
|---|---|
{rows}

The images are the same bits with any number of processes. A training then reads the memory map: 5,000 images once, not once an
epoch.
"""


def make(root: Path, count: int) -> list[Path]:
    rng, files = np.random.default_rng(0), []
    for index in range(count):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        fine = rng.integers(-12, 13, (SIZE[1], SIZE[0], 3))
        smooth = np.asarray(Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)) + fine
        path = root / f"class-{index % CLASSES}" / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8)).save(path, quality=90)
        files.append(path)
    return files


def ours(files: list[Path], processes: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as out:
        return np.array(folder.read_images(files, SIDE, Path(out), processes=processes)[0][:: len(files) // 50])


def theirs(root: Path, workers: int) -> None:
    fit = v2.Compose([v2.Resize(SIDE, v2.InterpolationMode.BICUBIC), v2.CenterCrop(SIDE), v2.PILToTensor()])
    for _ in torch.utils.data.DataLoader(datasets.ImageFolder(root, fit), 64, num_workers=workers):
        pass


def rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def main(count: int) -> None:
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = make(root, count)
        kilobytes = sum(path.stat().st_size for path in files) / count / 1000
        one, two = (ours(files[:500], processes) for processes in PROCESSES)
        assert np.array_equal(one, two)
        cases = {f"ours, {n} process(es)": lambda n=n: ours(files, n) for n in PROCESSES}
        cases |= {f"torchvision, {n} worker(s)": lambda n=n: theirs(root, n) for n in PROCESSES}
        rates = [{name: rate(count, work) for name, work in cases.items()} for _ in range(REPEATS)]
    rows = [
        f"| {name} | {statistics.median(r[name] for r in rates):,.0f} ({', '.join(f'{r[name]:,.0f}' for r in rates)}) |"
        for name in cases
    ]
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in ("pillow", "torchvision", "numpy"))
    page = PAGE.format(
        count=count, size=SIZE, classes=CLASSES, side=SIDE, kilobytes=kilobytes, repeats=REPEATS, load=load,
        machine=f"Python {platform.python_version()}, {versions}; 2 cores, torch without a GPU", rows="\n".join(rows),
    )  # fmt: skip
    Path(__file__).with_name("data.md").write_text(page)
    print(page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    main(parser.parse_args().images)
