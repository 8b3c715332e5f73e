"""Images that the user generated, one folder per class, as a source of synthetic images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diversity_spectra.data.folder import list_images, open_image, printable
from diversity_spectra.data.tree import list_classes
from diversity_spectra.errors import UserError
from diversity_spectra.execution import log
from diversity_spectra.generate.pipeline import fit
from diversity_spectra.generate.sources import is_blank
from diversity_spectra.imageset import ImageSet
from diversity_spectra.seeds import derive_seed


class Given:
    """A class-per-folder tree with the classes of the data set; other folders in it are left alone.

    Files are taken in an order of chance, so that a part of them holds every prompt that they were named after.
    """

    tile = 1

    def __init__(self, path: str, real: ImageSet, seed: int):
        root = Path(path)
        missing = sorted(set(real.classes) - set(list_classes(root)))
        if missing:
            raise UserError(f"{root}: no folder for class {', '.join(map(repr, missing))}")
        files, labels = list_images(root, real.classes)
        order = np.random.default_rng(derive_seed(seed, "given")).permutation(len(files))
        self.files, self.labels = [files[index] for index in order], labels[order]
        self.way = real.meta["source"].get("fit", "crop")
        self.classes, self.shape = real.classes, real.images.shape[1:]
        self.root = root

    def count(self, real: ImageSet) -> int:
        return len(self.files)

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        images = np.zeros((len(indices), *self.shape), np.uint8)
        rows = []
        for position, index in enumerate(indices):
            picture = open_image(self.files[index])
            if isinstance(picture, str):
                log.warning("unreadable image left out: %s", picture)
                reason = "unreadable"
            else:
                images[position] = fit(picture, self.shape, self.way)
                reason = "blank" if is_blank(np.asarray(picture)) else ""
            rows.append(
                {
                    "index": int(index),
                    "label": int(self.labels[index]),
                    "class": self.classes[self.labels[index]],
                    "file": printable(self.files[index].relative_to(self.root)),
                    "prompt": "",
                    "kept": not reason,
                    "reason": reason,
                }
            )
        return images, rows
