"""The package that people install: its dependencies, its extras, and what the base alone can do."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from base_only import PROJECT, closure, name_of
from conftest import ROOT, Checkout
from packaging.requirements import Requirement
from PIL import Image
from safetensors.numpy import save_file

from diversity_spectra.errors import EXTRAS


def test_every_pin_lies_in_the_range_of_the_package() -> None:
    lines = (ROOT / "envs/requirements.txt").read_text().splitlines()
    pins = dict(line.partition(" ;")[0].split("==") for line in lines if "==" in line)
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(text for name in EXTRAS for text in extras[name])]:
        needed = Requirement(text)
        assert needed.specifier.contains(pins[needed.name]), f"{text}: {pins[needed.name]} is pinned"
        assert needed.specifier.contains("999"), f"{text}: a limit above that nobody has met"
    assert extras["all"] == [f"diversity-spectra[{','.join(EXTRAS)}]"]


def test_extras_name_what_they_bring() -> None:
    from importlib import metadata

    brought = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        known = closure([text for text in PROJECT["optional-dependencies"][extra] if name_of(text) != "torch"]) | {
            "torch"
        }
        for module in modules:
            assert {name.lower() for name in brought[module]} & known, f"{module} does not come with [{extra}]"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory):
    """Runs a subcommand with the base alone, in a folder with a model and a folder of images."""
    folder = tmp_path_factory.mktemp("base")
    rng = np.random.default_rng(0)
    save_file({"fc.weight": rng.normal(size=(64, 32)).astype("float32")}, folder / "model.safetensors")
    for index in range(12):
        (folder / "images" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
        picture.save(folder / "images" / "ab"[index % 2] / f"{index}.png")

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "tests/base_only.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    run.folder = folder
    return run


def test_the_base_analyses_and_draws(base) -> None:
    done = base("spectra", "model.safetensors")
    assert "1 matrices analysed; mean alpha of W" in done.stdout and not done.stderr, done.stderr
    base("spectra", "model.safetensors", "--out", "rows.csv", "--eigenvalues", "e.npz")
    done = base("plot-esd", "e.npz", "--layer", "fc", "--rows", "rows.csv", "--out", "esd.svg")
    assert done.returncode == 0 and (base.folder / "esd.svg").stat().st_size > 1000, done.stderr
    assert "|dW|/|W|" in base("diff", "model.safetensors", "model.safetensors").stdout


def test_the_base_measures_a_folder_of_images_in_pixels(base) -> None:
    done = base("diversity", "images", "--embedding", "none")
    assert "pixel_centred" in done.stdout and "12 images in 2 classes, read at 32 px" in done.stderr, done.stderr


def test_the_base_compares_and_reports(base, finished: Checkout) -> None:
    tables = finished.folder / "results/tiny/tables"
    done = base("compare", "--inputs", tables, "--out", "tables", "--options", '{"bootstrap": 50, "permutations": 50}')
    assert done.returncode == 0, done.stderr
    again = pd.read_parquet(base.folder / "tables/claims.parquet")
    assert again["verdict"].tolist() == pd.read_parquet(tables / "claims.parquet")["verdict"].tolist()
    done = base("report", "--tables", tables, "--out", "out")
    assert done.returncode == 0 and (base.folder / "out/report.html").exists(), done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("diversity", "images"), 'torch, which is not installed: pip install "diversity-spectra[train]"'),
        (("check", "--configfile", ROOT / "config.yaml"), '"diversity-spectra[train]"'),
    ],
)
def test_a_missing_extra_is_one_line(base, arguments: tuple, told: str) -> None:
    done = base(*arguments)
    assert done.returncode == 2 and told in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr
