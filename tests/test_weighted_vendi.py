"""The weighted Vendi score: the study's, and the one that depends on no order."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.diversity import command
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


def test_a_picture_stands_opposite_its_own_variant_and_generated_ones_take_other_places() -> None:
    labels = np.array([0, 1, 0, 1])  # as torchvision's sets come; changed sets go class by class
    real, made = np.array(["real"] * 4), np.array(["synthetic"] * 2)
    source = np.array([0, 2, 1, 3])
    own = compared_rows(np.tile(real, 2), np.repeat([0, 1], 4), np.tile(source, 2), labels)
    assert own.tolist() == [0, 2, 1, 3]
    # One picture of each class is replaced: 2 and 3.
    origin, picture = np.array(["real", "synthetic"] * 2), np.array([0, -1, 1, -2])
    assert compared_rows(origin, np.zeros(4, int), picture, labels).tolist() == [0, 2, 1, 3]
    # Added images are compared alone.
    added = np.concatenate([real, made]), np.zeros(6, int), np.append(source, [-1, -2])
    assert compared_rows(*added, labels).tolist() == [4, -1, 5, -1]


def write(folder: Path, images: np.ndarray, labels: np.ndarray, manifest: dict) -> None:
    folder.mkdir()
    imageset.save(folder, images, labels, pd.DataFrame(manifest), {"classes": ["a", "b"], "source": {}})


def scored(folder: Path, plain: Path) -> pd.Series:
    """Values of the table quality, by measure."""
    job = {
        "settings": {"measured": {"per_class": 10}},
        "inputs": {"images": str(folder), "plain": str(plain)},
        "out": f"{folder}-out",
    }
    assert main(["diversity", "--job", json.dumps(job)]) == 0
    return pd.read_parquet(Path(f"{folder}-out") / "quality.parquet").set_index("measure")["value"]


@pytest.fixture
def plain(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    labels = np.arange(40) % 2
    images = RANDOM.integers(0, 80, (40, 8, 8, 1), dtype=np.uint8)
    images[labels == 0, :4] += 100
    write(tmp_path / "plain", images, labels, {"source": np.arange(40)})
    return tmp_path / "plain", images, labels


def test_the_subcommand_writes_both(plain: tuple, tmp_path: Path) -> None:
    folder, images, labels = plain
    order = np.argsort(labels, kind="stable")
    manifest = {"origin": "real", "source": order, "copy": 0}
    for name, pixels in (("same", images), ("turned", images[:, ::-1])):
        write(tmp_path / name, pixels[order], labels[order], manifest)
    own, same, turned = (scored(tmp_path / name, folder) for name in ("plain", "same", "turned"))
    assert own["rho_pixel"] == same["rho_pixel"] == pytest.approx(1)
    assert own["rho_by_class_pixel"] == pytest.approx(1, abs=0.1)
    # Of the plain set's centre the bright halves of class a differ, so nothing of the classes' places is common.
    assert abs(turned["rho_by_class_pixel"]) < 0.3 < turned["rho_pixel"] < 1


def test_nearness_by_class_sees_all_images_of_a_set(
    plain: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added images stand behind the real ones of their class; here they are bright on the left, not above."""
    monkeypatch.setattr(command, "NEAR", 4)
    folder, images, labels = plain
    order = np.argsort(labels, kind="stable").reshape(2, 20)
    pixels = [np.concatenate([images[rows], images[rows].swapaxes(1, 2)]) for rows in order]
    manifest = {
        "origin": np.tile(np.repeat(["real", "synthetic"], 20), 2),
        "source": np.tile(order, 2).ravel(),
        "copy": 0,
    }
    write(tmp_path / "added", np.concatenate(pixels), np.repeat([0, 1], 40), manifest)
    assert scored(tmp_path / "added", folder)["rho_by_class_pixel"] < 0.9
    manifest = {"origin": "real", "source": order.ravel(), "copy": 0}
    write(tmp_path / "none", images[order.ravel()], np.repeat([0, 1], 20), manifest)
    assert scored(tmp_path / "none", folder)["rho_by_class_pixel"] > 0.9


def test_a_set_of_other_pictures_is_refused(plain: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, images, labels = plain
    write(tmp_path / "other", images, labels, {"origin": "real", "source": np.arange(40) + 1, "copy": 0})
    arguments = [str(tmp_path / "other"), "--embedding", "none", "--plain", str(folder)]
    assert main(["diversity", *arguments, "--quality", str(tmp_path / "q.csv")]) == 2
    assert "was not made of" in capsys.readouterr().err


def test_a_nearness_that_may_be_none_has_an_interval() -> None:
    scores = pd.DataFrame(
        {"order": ["1"], "label": "overall", "kernel": "pixel", "score": 5.0, "low": 4.0, "high": 6.0}
    )
    rows = {row["measure"]: row for row in command._weighted({"wvs_by_class_pixel": (-0.1, -0.4, 0.2, 9)}, scores)}
    found = rows["wvs_by_class_pixel"]
    assert (found["low"], found["value"], found["high"]) == pytest.approx((0, 0, 1.5))
