"""The preset for own images from end to end on Fashion-MNIST: class folders as data, torchvision's files as a shift."""

from __future__ import annotations

import fashion
import pandas as pd
import pytest
import yaml
from conftest import copy_checkout

from diversity_spectra.compare import TABLES

pytestmark = pytest.mark.workflow
TRAIN, TEST = 60, 30
# What a CPU needs: a small network from scratch, few steps and runs, two conditions, no hub.
NETWORK = {
    "architecture": "test_resnet",
    "weights": "none",
    "image_size": 32,
    "steps": 60,
    "lr": 1e-2,
    "seeds": 1,
    "baseline_runs": 2,
    "seeds_per_job": 2,
    "conditions": {
        "dropout": {"rates": [0.1]},
        "augmentation": {"rotation": [15]},
    },
}


def test_own_images_become_a_report(tmp_path_factory: pytest.TempPathFactory) -> None:
    checkout = copy_checkout(tmp_path_factory.mktemp("own"))
    arrays = fashion.real() if fashion.DEBIAN.is_dir() else fashion.made({"train": TRAIN, "test": TEST})
    chosen = fashion.class_tree(checkout.folder / "images", arrays, {"train": TRAIN, "test": TEST})
    same = {part: tuple(values[chosen[part]] for values in arrays[part]) for part in arrays}
    root = fashion.torchvision_root(checkout.folder / "datasets", same)

    config = yaml.safe_load((checkout.folder / "workflow/presets/image-folder.yaml").read_text())
    config["data"]["image_size"] = 28
    config["ood"] = [{"kind": "torchvision", "name": "FashionMNIST", "root": str(root), "download": False}]
    config["copies"] = 1
    config["models"][0].update(NETWORK)
    config["diversity"]["embedding"] = "none"
    config["compare"] = {"bootstrap": 50, "permutations": 50}
    config["report"] = {"dpi": 60}
    (checkout.folder / "own.yaml").write_text(yaml.safe_dump(config))

    checkout.snakemake("--cores", "2", config="own.yaml")
    results = checkout.folder / "results/my-images"
    assert "<html" in (results / "report.html").read_text()[:500]
    tables = {name: pd.read_parquet(results / f"tables/{name}.parquet") for name in TABLES}
    loss = tables["evaluation"].set_index(["set", "condition", "seed"])["nll"]
    # The same images by both ways, grey ones repeated to three channels in one of them: the same predictions.
    pd.testing.assert_series_equal(loss["test"], loss["FashionMNIST"], rtol=1e-6)
    accuracy = tables["evaluation"].query("set == 'test' and condition == 'baseline'")["accuracy"]
    assert len(accuracy) == 2 and accuracy.min() > 0.6, "the classes were learnt, so images and labels belong together"
    assert set(tables["spectra"]["condition"]) == {
        "baseline",
        "dropout-0.1",
        "augmentation-rotation-15",
    }
