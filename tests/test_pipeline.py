"""Diffusers pipelines end to end: tiny random-weight ones of the Stable-Diffusion and SDXL kind, built on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_pipelines

from diversity_spectra import imageset
from diversity_spectra.cli import main
from diversity_spectra.generate.kinds import parse
from diversity_spectra.jobs import canonical


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    images = np.random.default_rng(0).integers(0, 255, (8, 16, 16, 3), dtype=np.uint8)
    labels = np.arange(8) % 2
    imageset.save(folder, images, labels, pd.DataFrame({"source": labels}), {"classes": ["cat", "dog"], "source": {}})
    return folder


def settings(model: Path, **changes: object) -> dict:
    return {
        "kind": "text_to_image",
        "model": str(model),
        "revision": None,
        "images_per_class": 4,
        "prompts": ["a photo of a {name}", "{name}"],
        "negative_prompt": "",
        "guidance": 2.0,
        "inference_steps": 2,
        "scheduler": None,
        "image_size": 32,
        "dtype": "float32",
        "redraws": 2,
        **changes,
    }


def sample(chosen: dict, real: Path, out: Path, batch: int = 8, shard: tuple[int, int] = (0, 1)) -> imageset.ImageSet:
    job = {"settings": {"source": chosen, "shard": list(shard)}, "inputs": {"images": str(real)}, "out": str(out)}
    assert main(["generate", "sample", "--device", "cpu", "--batch-size", str(batch), "--job", canonical(job)]) == 0
    return imageset.load(out)


def test_text_to_image_does_not_depend_on_batch_or_shards(stable_diffusion: Path, real: Path, tmp_path: Path) -> None:
    whole = sample(settings(stable_diffusion), real, tmp_path / "whole")
    assert whole.images.shape == (8, 16, 16, 3)
    assert len({image.tobytes() for image in whole.images}) == 8
    for batch in (1, 3):
        assert np.array_equal(
            sample(settings(stable_diffusion), real, tmp_path / f"b{batch}", batch).images, whole.images
        )
    for shard in range(2):
        part = sample(settings(stable_diffusion), real, tmp_path / f"s{shard}", shard=(shard, 2))
        assert np.array_equal(part.images, whole.images[shard::2])
    prompts = imageset.read_manifest(tmp_path / "whole")["prompt"].tolist()
    assert prompts[:4] == ["a photo of a cat", "a photo of a dog", "cat", "dog"]


def test_a_filled_tile_gives_each_image_its_own_bits(
    stable_diffusion: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where every call draws a whole tile."""
    import torch

    from diversity_spectra.generate import pipeline

    source = pipeline.Pipeline(parse(settings(stable_diffusion)), imageset.load(real), 0, torch.device("cpu"))
    source.tile = 3
    together, _ = source.draw(np.arange(4))
    for index in (0, 3):
        assert np.array_equal(source.draw(np.array([index]))[0][0], together[index])


def test_images_that_came_out_blank_are_drawn_again_together(
    stable_diffusion: Path, real: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from diversity_spectra.generate import pipeline

    source = pipeline.Pipeline(parse(settings(stable_diffusion)), imageset.load(real), 0, torch.device("cpu"))
    source.tile, calls = 3, []
    drawn = np.repeat(np.eye(32, dtype=np.uint8)[:, :, None] * 255, 3, axis=2)

    def call(rows: list[dict]) -> list[np.ndarray]:
        calls.append([row["index"] for row in rows])
        blank = [row["redraws"] < {1: 1, 4: 2}.get(row["index"], 0) for row in rows]
        return [np.zeros((32, 32, 3), np.uint8) if each else drawn for each in blank]

    monkeypatch.setattr(source, "_call", call)
    _, rows = source.draw(np.arange(6))
    assert calls == [[0, 1, 2], [3, 4, 5], [1, 4], [4]]
    assert all(row["kept"] for row in rows) and [row["redraws"] for row in rows] == [0, 1, 0, 0, 2, 0]


def test_the_denoiser_is_compiled_where_that_is_asked_for(
    stable_diffusion: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    sample(settings(stable_diffusion, images_per_class=1, compile=True), real, tmp_path / "compiled")
    assert compiled == ["UNet2DConditionModel"]


def test_lack_of_memory_names_the_setting(stable_diffusion: Path, real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from diversity_spectra.errors import UserError
    from diversity_spectra.generate import pipeline

    source = pipeline.Pipeline(parse(settings(stable_diffusion, tile=3)), imageset.load(real), 0, torch.device("cpu"))
    assert source.tile == 1 and source.settings.tile == 3, "on a CPU one by one"

    def short(**options: object) -> None:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(source, "pipeline", short)
    with pytest.raises(UserError, match="with 1 images in a call: lower generator"):
        source.draw(np.arange(2))


def test_captions_take_the_place_of_prompts(stable_diffusion: Path, real: Path, tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("a {name}\n\na photo of {name}\n")
    by_class = tmp_path / "classes.yaml"
    by_class.write_text("cat: [a cat of cat, a photo]\ndog: [a dog]\nbird: [of no class here]\n")
    for file, expected in (
        (tmp_path / "all.txt", ["a cat", "a dog", "a photo of cat", "a photo of dog", "a cat", "a dog"]),
        (by_class, ["a cat of cat", "a dog", "a photo", "a dog", "a cat of cat", "a dog"]),
    ):
        sample(settings(stable_diffusion, captions=str(file), images_per_class=3), real, tmp_path / file.stem)
        assert imageset.read_manifest(tmp_path / file.stem)["prompt"].tolist() == expected


def test_image_to_image_starts_from_images_of_the_class(stable_diffusion: Path, real: Path, tmp_path: Path) -> None:
    chosen = settings(stable_diffusion, kind="image_to_image", strength=0.5)
    made = sample(chosen, real, tmp_path / "out")
    sources = imageset.read_manifest(tmp_path / "out")["source"].to_numpy()
    assert np.array_equal(imageset.load(real).labels[sources], made.labels)


def test_sdxl(sdxl: Path, real: Path, tmp_path: Path) -> None:
    made = sample(settings(sdxl, images_per_class=1, scheduler="EulerDiscreteScheduler"), real, tmp_path / "out")
    assert made.images.shape == (2, 16, 16, 3)


def test_blank_images_are_drawn_again_and_counted(
    stable_diffusion: Path, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diversity_spectra.generate.pipeline import Pipeline

    whole = Pipeline._call

    def checked(self: Pipeline, rows: list[dict]) -> list[np.ndarray]:
        """As a safety checker: image 1 is always black, image 2 the first time."""
        images = whole(self, rows)
        return [
            i * 0 if r["index"] == 1 or (r["index"] == 2 and r["redraws"] == 0) else i
            for r, i in zip(rows, images, strict=True)
        ]

    monkeypatch.setattr(Pipeline, "_call", checked)
    sample(settings(stable_diffusion, images_per_class=2), real, tmp_path / "out")
    manifest = imageset.read_manifest(tmp_path / "out").set_index("index")
    assert manifest["kept"].tolist() == [True, False, True, True]
    assert manifest["redraws"].tolist() == [0, 2, 1, 0] and manifest.loc[1, "reason"] == "blank"


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path, real: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty").mkdir()
    job = {
        "settings": {"source": settings(tmp_path / "empty")},
        "inputs": {"images": str(real)},
        "out": str(tmp_path / "out"),
    }
    assert main(["generate", "sample", "--job", canonical(job)]) == 2
    assert "no model_index.json in it" in capsys.readouterr().err
