"""Data recipes: which images a training set holds, and what is done to each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diversity_spectra.augment.job import Step
from diversity_spectra.errors import UserError
from diversity_spectra.seeds import derive_seed


def mix(
    real: np.ndarray, synthetic: np.ndarray | None, ratio: float, mode: str, seed: int, classes: Sequence[str]
) -> list[tuple[str, int]]:
    """Members of a training set, as (origin, index) with origin `real` or `synthetic`; every class alike.

    real (N,) and synthetic (S,) are labels. `added`: all real images and round(ratio x N_c) synthetic ones per class c.
    `replaced`: that many real images give way to synthetic ones. A smaller ratio takes a subset of what a larger one
    takes. Raises `UserError` if a class has too few synthetic images.
    """
    members: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        own = np.flatnonzero(real == label)
        wanted = round(ratio * len(own))
        if mode == "replaced":
            order = np.random.default_rng(derive_seed(seed, "replaced", name)).permutation(own)
            own = np.sort(order[wanted:])
        members += [("real", int(index)) for index in own]
        if wanted and synthetic is not None:
            made = np.flatnonzero(synthetic == label)
            if len(made) < wanted:
                raise UserError(
                    f"class {name!r}: ratio {ratio:g} takes {wanted} synthetic images, {len(made)} are usable; "
                    "generate more of them, or take a smaller ratio"
                )
            members += [("synthetic", int(index)) for index in made[:wanted]]
    return members


def augmented(
    image: np.ndarray, augmentations: Sequence[Step], copy: int, seed: int, origin: str, index: int
) -> np.ndarray:
    """One variant of an image (H, W, C) uint8. Its seed is that of the image and the copy, nothing else.

    Raises `UserError` for a kind that gives anything but an image of the same shape and type.
    """
    import torch

    from diversity_spectra.augment.kinds import KINDS

    named = [[step.kind, step.level] for step in augmentations]
    generator = torch.Generator().manual_seed(derive_seed(seed, "augment", named, origin, index, copy))
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # (C, H, W)
    for step in augmentations:
        changed = KINDS[step.kind].apply(tensor, step.level, generator)
        if (changed.shape, changed.dtype) != (tensor.shape, tensor.dtype):
            given, wanted = (f"{tuple(each.shape)} of {each.dtype}" for each in (changed, tensor))
            raise UserError(f"augmentation {step.kind} made an image {given}, expected {wanted}")
        tensor = changed
    return tensor.permute(1, 2, 0).numpy()
