"""Predict every test set with the runs of one condition, and score the predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.evaluate.job import Evaluate
from diversity_spectra.evaluate.metrics import classification_metrics
from diversity_spectra.execution import (
    add_device,
    add_job,
    add_seeds,
    add_threads,
    add_weights,
    drop_weights,
    finished,
    log,
    publish,
    read_job,
)
from diversity_spectra.files import write_npz
from diversity_spectra.finetune.job import Network, Precision

BATCH = 256
EXAMPLE = """example (copy the job from `snakemake -np`):
  diversity-spectra evaluate --job results/cache/evaluate/mlp/baseline-0123456789ab/seed-0/spec.json --seeds 0 --out again"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    add_device(parser)
    add_threads(parser)
    add_seeds(parser)
    add_weights(parser)
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from diversity_spectra import devices
    from diversity_spectra.finetune import models

    job = read_job(arguments, Evaluate)
    sets = {name: imageset.load(path) for name, path in job.sets.items()}
    classes = len(next(iter(sets.values())).classes)
    device = devices.choose(arguments.device, arguments.threads, arguments.jobs_per_gpu)
    for seed in arguments.seeds:
        if finished(job, seed):
            drop_weights(arguments, job, seed)
            continue
        trained = Path(job.runs) / f"seed-{seed}"
        with publish(job, seed, device=devices.describe(device), threads=arguments.threads) as result:
            model = models.create(job.network, classes)
            weights = str(trained / "model.safetensors")
            models.load_weights(model, weights, job.network.architecture, strict_head=True)
            predictions, rows = {}, []
            for name, images in sets.items():
                logits = predict(model, images, job.network, device, job.precision)
                predictions[name] = logits
                rows.append({"set": name, "shift": shift_of(name, images), **scores(logits, images.labels)})
                log.info("seed %d, %s: accuracy %.3f", seed, name, rows[-1]["accuracy"])
            write_npz(result.folder / "predictions.npz", predictions)
            pd.DataFrame(rows).to_parquet(result.folder / "metrics.parquet", index=False)
        drop_weights(arguments, job, seed)


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of logits (N, C) against labels (N,); all NaN for a diverged network, which predicts nothing."""
    if np.isfinite(logits).all():
        return classification_metrics(logits, labels)
    return dict.fromkeys(classification_metrics(np.zeros_like(logits), labels), np.nan)


def shift_of(name: str, images: imageset.ImageSet) -> str:
    """Kind of shift of a test set: none, synthetic, corruption, or natural (another source)."""
    if name in ("test", "synthetic"):
        return "none" if name == "test" else "synthetic"
    return "corruption" if "corruption" in images.meta else "natural"


def predict(model, images: imageset.ImageSet, network: Network, device, precision: Precision = "float32") -> np.ndarray:
    """Logits (N, classes) float32, in batches of a fixed size so that they do not depend on the machine's memory."""
    import torch

    from diversity_spectra.devices import computing, in_memory
    from diversity_spectra.finetune import models
    from diversity_spectra.finetune.images import Images

    model = model.to(device).eval()
    if network.channels == 3:
        model = model.to(memory_format=torch.channels_last)
    batches = Images(images.images, images.labels, network, models.normalisation(model), device)

    def logits(indices: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
        return model(batches.batch(indices, pixels=pixels)[0]).float()

    with torch.inference_mode(), computing(precision, device):
        parts = in_memory(logits, batches.ahead(torch.arange(len(images)).split(BATCH)))
        return torch.cat(parts).cpu().numpy()
