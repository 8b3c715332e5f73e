"""Synthetic images: train a generator (kind ddpm), generate one shard, join the shards."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_device, add_job, add_threads, log, publish, read_job
from diversity_spectra.generate.job import DrawShard, JoinShards, TrainGenerator
from diversity_spectra.generate.kind import Generator

TOGETHER = 10  # seconds: images are drawn so long before it is seen whether to save them
EXAMPLE = """example:
  diversity-spectra generate train --job '{"settings": {"source": {"kind": "ddpm", "train_steps": 100}},
    "inputs": {"images": "digits-train"}, "out": "generator"}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, summary in (
        ("train", "train the small diffusion model"),
        ("sample", "generate one shard of the images"),
        ("join", "join the shards to one image set"),
    ):
        step = steps.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLE
        )
        add_job(step)
        if name != "join":
            add_device(step)
            add_threads(step)
    for name in ("train", "sample"):
        steps.choices[name].add_argument("--save-every", type=float, default=300, help="seconds between saved states")
    steps.choices["sample"].add_argument("--batch-size", type=int, default=64, help="images drawn together, at most")
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    {"train": _train, "sample": _sample, "join": _join}[arguments.step](arguments)


def _train(arguments: argparse.Namespace) -> None:
    from diversity_spectra import devices
    from diversity_spectra.resume import Resume

    job = read_job(arguments, TrainGenerator)
    images = imageset.load(job.images)
    device = devices.choose(arguments.device, arguments.threads, arguments.jobs_per_gpu)
    resume = Resume(job.key, "generator", arguments.save_every)
    with publish(job, device=devices.describe(device), threads=arguments.threads) as result:
        job.source.train(images, job.seed, device, resume, result.folder)
        result.facts["resumed"] = resume.resumed
    resume.clear()


def _sample(arguments: argparse.Namespace) -> None:
    from diversity_spectra import devices
    from diversity_spectra.resume import Resume

    job = read_job(arguments, DrawShard)
    real = imageset.load(job.images)
    device = devices.choose(
        arguments.device if job.takes_device() else "cpu", arguments.threads, arguments.jobs_per_gpu
    )
    resume = Resume(job.key, "shard", arguments.save_every)
    with publish(job, device=devices.describe(device), threads=arguments.threads) as result:
        source = job.source.open(job.generator, real, job.seed, device)
        shard, shards = job.shard
        # Image i shows class i modulo the number of classes, so every prefix of the set is balanced.
        indices = np.arange(source.count(real))[shard::shards]
        state, images = resume.images((len(indices), *real.images.shape[1:]))
        rows = state["rows"] if state else []
        most, tiles = math.ceil(arguments.batch_size / source.tile), 1
        with resume.watching():
            while len(rows) < len(indices):
                start = time.monotonic()
                piece = indices[len(rows) : len(rows) + tiles * source.tile]
                images[len(rows) : len(rows) + len(piece)], made = source.draw(piece)
                rows += made
                log.info("%d of %d images", len(rows), len(indices))
                # Many together, since blank ones are drawn again together; few where they take long, since a kill loses them.
                seconds = (time.monotonic() - start) / tiles
                tiles = min(most, max(1, int(TOGETHER / max(seconds, 1e-9))))
                if resume.due() and len(rows) < len(indices):
                    images.flush()
                    resume.save({"step": len(rows), "rows": rows})
        images.flush()
        shutil.move(images.filename, result.folder / "images.npy")
        images = np.load(result.folder / "images.npy", mmap_mode="r+", allow_pickle=False)
        _save(result.folder, images, rows, real, job.source)
        result.facts["resumed"] = resume.resumed
    resume.clear()


def _join(arguments: argparse.Namespace) -> None:
    import pandas as pd

    job = read_job(arguments, JoinShards)
    parts = [imageset.load(path) for path in job.shards]
    manifest = pd.concat([imageset.read_manifest(path) for path in job.shards], ignore_index=True)
    order = np.argsort(manifest["index"].to_numpy(), kind="stable")
    kept = order[manifest["kept"].to_numpy()[order]]
    if len(kept) == 0:
        reasons = manifest["reason"].value_counts().to_dict()
        raise UserError(f"all {len(order)} synthetic images were rejected: {reasons}")
    labels = np.concatenate([part.labels for part in parts])
    with publish(job) as result:
        folder = result.folder
        # Rejected images stay in the shards, with the reason; the manifest here lists them too.
        manifest.iloc[order].to_parquet(folder / "drawn.parquet", index=False)
        rejected = len(order) - len(kept)
        meta = {**parts[0].meta, "drawn": len(order), "rejected": rejected}
        if rejected:
            reasons = manifest["reason"][~manifest["kept"]].value_counts()
            listed = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
            meta["notes"] = [f"{rejected} of {len(order)} images are left out: {listed}"]
        drawn = [image for part in parts for image in part.images]  # views of the shards' memory maps
        images = imageset.new_images(folder, (len(kept), *parts[0].images.shape[1:]))
        for position, index in enumerate(kept):
            images[position] = drawn[index]
        images.flush()
        imageset.save(folder, images, labels[kept], manifest.iloc[kept], meta)


def _save(folder: Path, images: np.ndarray, rows: list[dict], real: imageset.ImageSet, source: Generator) -> None:
    import pandas as pd

    manifest = pd.DataFrame(rows)
    settings = source.model_dump(mode="json")
    manifest["parameters"] = json.dumps(settings, sort_keys=True)
    meta = {"classes": real.classes, "source": {"kind": source.kind}, "generator": settings}
    imageset.save(folder, images, manifest["label"].to_numpy(), manifest, meta)
