"""The weighted Vendi score: the study's, and the one that depends on no order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.diversity.vendi import eigenvalues, score
from diversity_spectra.diversity.weighted import by_class, by_index, compared_rows

RANDOM = np.random.default_rng(0)


def reference(real: np.ndarray, changed: np.ndarray) -> float:
    """The study's weighted Vendi score, as it is defined."""
    count = min(len(real), len(changed))
    units = changed / np.linalg.norm(changed, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(units @ units.T / len(units))
    values = values[values > 1e-12]
    vendi = np.exp(-(values * np.log(values)).sum())
    first, second = real[:count], changed[:count]
    return vendi * np.sum(first * second) / (np.linalg.norm(first) * np.linalg.norm(second))


def test_the_studys_score_is_its_definition() -> None:
    real, changed = RANDOM.normal(size=(2, 30, 8)) + 0.5
    assert score(eigenvalues(changed)) * by_index(real, changed) == pytest.approx(reference(real, changed))
    assert by_index(real, real) == pytest.approx(1)


def test_nearness_by_class_depends_on_no_order() -> None:
    means = 2 * RANDOM.normal(size=(4, 1, 6))
    plain, changed = (means + RANDOM.normal(size=(4, 12, 6)) + 5 for _ in range(2))
    order = np.array([RANDOM.permutation(12) for _ in range(4)])
    shuffled = np.take_along_axis(changed, order[..., None], axis=1)
    assert by_class(plain, shuffled) == pytest.approx(by_class(plain, changed), rel=1e-12)
    assert by_index(plain, shuffled) != pytest.approx(by_index(plain, changed), rel=1e-3)
    assert by_class(plain, changed + 0) > 0.8 > by_class(plain, np.roll(changed, 1, axis=0))


def test_nearness_by_class_is_that_of_the_means_without_their_noise() -> None:
    """The same distribution twice has 1, whatever the number of images; the plain cosine of means falls short of it."""
    means = RANDOM.normal(size=(6, 1, 20)) / 2
    draws = [[means + RANDOM.normal(size=(6, 5, 20)) for _ in range(2)] for _ in range(300)]
    found = np.array([by_class(*pair) for pair in draws])
    assert abs(np.nanmedian(found) - 1) < 0.1
    plain = [by_index(*(part.mean(axis=1) - part.mean(axis=(0, 1)) for part in pair)) for pair in draws]
    assert np.mean(plain) < 0.7
    # A picture is no evidence of its own set: its products with itself are left out.
    same = np.arange(30).reshape(6, 5)
    assert np.isfinite(by_class(draws[0][0], draws[0][0] * 1.0, (same, same)))


def test_added_images_are_compared_alone() -> None:
    origin = np.array(["real"] * 3 + ["synthetic"] * 2 + ["real"] * 3)
    assert compared_rows(origin, np.array([0] * 5 + [1] * 3), 3).tolist() == [3, 4]
    assert compared_rows(origin[:5], np.zeros(5, int), 4).tolist() == [0, 1, 2, 3]


def test_the_subcommand_writes_both(tmp_path: Path) -> None:
    labels = np.arange(40) % 2
    images = RANDOM.integers(0, 80, (40, 8, 8, 1), dtype=np.uint8)
    images[labels == 0, :4] += 100
    meta, folders = {"classes": ["a", "b"], "source": {}}, []
    for name, pixels in (("plain", images), ("turned", images[:, ::-1])):
        (tmp_path / name).mkdir()
        manifest = pd.DataFrame({"origin": "real", "source": np.arange(40), "copy": 0})
        imageset.save(tmp_path / name, pixels, labels, manifest, meta)
        folders.append(str(tmp_path / name))
    tables = []
    for folder in folders:
        job = {
            "settings": {"measured": {"per_class": 10}},
            "inputs": {"images": folder, "plain": folders[0]},
            "out": f"{folder}-out",
        }
        assert main(["diversity", "--job", json.dumps(job)]) == 0
        tables.append(pd.read_parquet(Path(f"{folder}-out") / "quality.parquet").set_index("measure")["value"])
    plain, turned = tables
    assert plain["rho_pixel"] == pytest.approx(1) and plain["rho_by_class_pixel"] == pytest.approx(1, abs=0.1)
    # Of the plain set's centre the bright halves of class a differ, so nothing of the classes' places is common.
    assert abs(turned["rho_by_class_pixel"]) < 0.3 < turned["rho_pixel"] < 1
