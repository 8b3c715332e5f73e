"""Training sets: mixing real and synthetic images, and every kind of augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from diversity_spectra.augment.recipe import augmented, mix
from diversity_spectra.augment.transforms import KINDS
from diversity_spectra.config import Augmentation
from diversity_spectra.errors import UserError

CLASSES = ["a", "b"]
REAL = np.repeat([0, 1], 20)
SYNTHETIC = np.tile([0, 1], 40)
LEVELS = {
    "gaussian_noise": (0.05, 0.3),
    "rotation": (5, 45),
    "resized_crop": (0.95, 0.2),
    "random_erasing": (0.05, 0.5),
    "color_jitter": (0.1, 0.9),
    "randaugment": (3, 20),
    "augmix": (1, 8),
}


def counts(members: list[tuple[str, int]]) -> dict[str, list[int]]:
    labels = {"real": REAL, "synthetic": SYNTHETIC}
    return {
        origin: np.bincount([labels[o][i] for o, i in members if o == origin], minlength=2).tolist()
        for origin in labels
    }


def test_added_and_replaced() -> None:
    assert counts(mix(REAL, SYNTHETIC, 0.5, "added", 0, CLASSES)) == {"real": [20, 20], "synthetic": [10, 10]}
    assert counts(mix(REAL, SYNTHETIC, 0.25, "replaced", 0, CLASSES)) == {"real": [15, 15], "synthetic": [5, 5]}
    assert counts(mix(REAL, SYNTHETIC, 1.0, "replaced", 0, CLASSES)) == {"real": [0, 0], "synthetic": [20, 20]}


def test_a_larger_ratio_holds_the_smaller_one() -> None:
    small = set(mix(REAL, SYNTHETIC, 0.5, "added", 0, CLASSES))
    large = set(mix(REAL, SYNTHETIC, 1.5, "added", 0, CLASSES))
    assert small < large


def test_too_few_synthetic_images_are_named() -> None:
    with pytest.raises(UserError, match="takes 60 synthetic images, 40 are usable"):
        mix(REAL, SYNTHETIC, 3, "added", 0, CLASSES)


def test_every_kind_in_the_configuration_is_there() -> None:
    assert set(KINDS) == set(Augmentation.model_fields) == set(LEVELS)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("channels", [1, 3])
def test_kinds_change_images_more_at_higher_levels(kind: str, channels: int) -> None:
    random = np.random.default_rng(0)
    images = np.zeros((24, 28, 28, channels), np.uint8)
    images[:, 8:20, 8:20] = random.integers(100, 255, (24, 12, 12, channels))

    def changed(level: float) -> float:
        variants = [augmented(image, ((kind, level),), 0, 0, "real", i) for i, image in enumerate(images)]
        assert all(v.shape == images.shape[1:] and v.dtype == np.uint8 for v in variants)
        return float(np.mean([np.abs(v.astype(int) - i).mean() for v, i in zip(variants, images, strict=True)]))

    weak, strong = (changed(level) for level in LEVELS[kind])
    assert 0 < weak < strong


def test_a_variant_depends_on_its_image_and_copy_only() -> None:
    image = np.random.default_rng(1).integers(0, 255, (28, 28, 1), dtype=np.uint8)
    first = augmented(image, (("rotation", 30.0),), 0, 0, "real", 7)
    assert np.array_equal(first, augmented(image, (("rotation", 30.0),), 0, 0, "real", 7))
    assert not np.array_equal(first, augmented(image, (("rotation", 30.0),), 1, 0, "real", 7))


def test_noise_has_the_level_it_says() -> None:
    image = np.full((64, 64, 1), 128, np.uint8)
    noisy = augmented(image, (("gaussian_noise", 0.1),), 0, 0, "real", 0).astype(float)
    assert abs(noisy.std() / 255 - 0.1) < 0.005
