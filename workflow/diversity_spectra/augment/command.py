"""Build one training set from real and synthetic images."""

from __future__ import annotations

import argparse

import numpy as np

from diversity_spectra import imageset
from diversity_spectra.augment.job import Augment
from diversity_spectra.augment.recipe import augmented, mix
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, publish, read_job

EXAMPLE = """example:
  diversity-spectra augment --job '{"settings": {"recipe": {"augmentations": [{"kind": "rotation", "level": 15}]},
    "copies": 4}, "inputs": {"images": "digits-train"}, "out": "rotated"}'"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    parser.epilog = EXAMPLE


def run(arguments: argparse.Namespace) -> None:
    import pandas as pd

    job = read_job(arguments, Augment)
    recipe = job.recipe
    real = imageset.load(job.images)
    synthetic = imageset.load(job.synthetic) if job.synthetic else None
    if synthetic and synthetic.images.shape[1:] != real.images.shape[1:]:
        raise UserError(
            f"synthetic images are {synthetic.images.shape[1:]}, real ones {real.images.shape[1:]}: they must be alike"
        )
    labels = synthetic.labels if synthetic else None
    members = mix(real.labels, labels, recipe.synthetic, recipe.mode, job.seed, real.classes)
    sources = {"real": real, "synthetic": synthetic}
    rows = [(origin, index, copy) for copy in range(job.copies) for origin, index in members]
    with publish(job) as result:
        folder = result.folder
        shape = (len(rows), *real.images.shape[1:])
        images = imageset.new_images(folder, shape)
        for position, (origin, index, copy) in enumerate(rows):
            image = sources[origin].images[index]
            images[position] = (
                augmented(image, recipe.augmentations, copy, job.seed, origin, index) if recipe.augmentations else image
            )
            if (position + 1) % 10_000 == 0:
                log.info("%d of %d images", position + 1, len(rows))
        images.flush()
        manifest = pd.DataFrame(rows, columns=["origin", "source", "copy"])
        manifest["transform"] = " ".join(f"{step.kind}-{step.level:g}" for step in recipe.augmentations)
        labels = np.array([sources[origin].labels[index] for origin, index, _ in rows])
        meta = {"classes": real.classes, "source": real.meta["source"], "recipe": recipe.model_dump()}
        imageset.save(folder, images, labels, manifest, meta)
