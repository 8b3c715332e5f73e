"""Images that the user generated, one folder per class, as a source of synthetic images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diversity_spectra.data.folder import list_images, read_image
from diversity_spectra.data.tree import list_classes
from diversity_spectra.errors import UserError
from diversity_spectra.generate.pipeline import fit
from diversity_spectra.imageset import ImageSet


class Given:
    """A class-per-folder tree with the classes of the data set; other folders in it are left alone."""

    tile = 1

    def __init__(self, path: str, real: ImageSet):
        root = Path(path)
        missing = sorted(set(real.classes) - set(list_classes(root)))
        if missing:
            raise UserError(f"{root}: no folder for class {', '.join(map(repr, missing))}")
        self.files, self.labels = list_images(root, real.classes)
        self.classes, self.shape = real.classes, real.images.shape[1:]
        self.root = root

    def count(self, real: ImageSet) -> int:
        return len(self.files)

    def draw(self, indices: np.ndarray) -> tuple[np.ndarray, list[dict]]:
        images = np.zeros((len(indices), *self.shape), np.uint8)
        rows = []
        for position, index in enumerate(indices):
            image = read_image(self.files[index], max(self.shape[:2]))
            problem = image if isinstance(image, str) else ""
            if not problem:
                images[position] = fit(image, self.shape)
            rows.append(
                {
                    "index": int(index),
                    "label": int(self.labels[index]),
                    "class": self.classes[self.labels[index]],
                    "file": str(self.files[index].relative_to(self.root)),
                    "prompt": "",
                    "kept": not problem,
                    "reason": "unreadable" if problem else "",
                }
            )
        return images, rows
