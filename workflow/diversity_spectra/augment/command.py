"""Build one training set from real and synthetic images."""

from __future__ import annotations

import argparse
import shutil

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.augment.job import Augment
from diversity_spectra.augment.variants import Variants
from diversity_spectra.execution import add_job, add_threads, log, publish, read_job
from diversity_spectra.resume import Resume

EXAMPLE = """example:
  diversity-spectra augment --job '{"settings": {"recipe": {"augmentations": [{"kind": "rotation", "level": 15}]},
    "copies": 4}, "inputs": {"images": "digits-train"}, "out": "rotated"}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    add_threads(parser)
    parser.add_argument("--save-every", type=float, default=300, help="seconds between saved states (default: 300)")
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    """Labels, manifest and recipe of the set, and its images unless they are made when they are read."""
    import pandas as pd
    import torch

    torch.set_num_threads(1)  # an image is too small for more; other processes make others
    job = read_job(arguments, Augment)
    real = imageset.load(job.images)
    synthetic = imageset.load(job.synthetic) if job.synthetic else None
    variants = Variants(job, real, synthetic)
    resume = Resume(job.key, "images", arguments.save_every)
    with publish(job, threads=arguments.threads) as result:
        meta = {"classes": real.classes, "source": real.meta["source"], "recipe": job.recipe.model_dump()}
        if job.stored(variants.nbytes):
            made = _made(variants, resume, arguments.threads)
            shutil.move(made.filename, result.folder / "images.npy")
            result.facts["resumed"] = resume.resumed
        else:
            meta["shape"] = variants.shape
            log.info("%s of %s pixels are made when they are read", len(variants), variants.shape[1:])
        imageset.save_around(result.folder, variants.labels, pd.DataFrame(variants.manifest()), meta)
    resume.clear()


def _made(variants: Variants, resume: Resume, processes: int) -> np.memmap:
    """All images (N, H, W, C), in a memory map beside the saved states; each process makes pieces of them."""
    state, images = resume.images(variants.shape)
    said = state["step"] if state else 0
    with resume.watching():
        for done in variants.write(images, said, processes if processes > 1 else 0):
            if done - said >= 10_000:
                said = done
                log.info("%d of %d images", done, len(images))
            if resume.due() and done < len(images):
                images.flush()
                resume.save({"step": done})
    images.flush()
    return images
