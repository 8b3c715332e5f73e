"""Experiments with a diffusers pipeline, from Snakemake's start to the report, with a tiny pipeline of random weights."""

from __future__ import annotations

import copy

import pandas as pd
import pytest
import tiny_pipelines
import yaml
from conftest import ROOT, TINY, Checkout, copy_checkout

pytestmark = pytest.mark.workflow
# Text is data wherever a person writes some: braces, quotes, a dollar sign and what a shell would expand.
PROMPTS = ["a photo of a {name}", "{name}, {style} 'a' \"b\" $HOME `id` %s"]
TITLE = "Braces {item} and 'quotes' \" $HOME <b>"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = copy_checkout(tmp_path_factory.mktemp("diffusers"))
    tiny_pipelines.stable_diffusion(made.folder)
    return made


def experiment(kind: str, **changes: object) -> dict:
    """The tiny experiment with one network, two shards and two synthetic images of each class."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    model = copy.deepcopy(config["models"][1])
    model |= {"steps": 10, "seeds": 1, "baseline_runs": 2}
    model["conditions"] = {"dropout": {"rates": [0.3]}, "synthetic": [{"ratios": [0.1]}]}
    generator = {
        "kind": kind, "model": "pipeline", "prompts": PROMPTS, "images_per_class": 2, "inference_steps": 2,
        "image_size": 32, "guidance": 2.0, "shards": 2, **changes,
    }  # fmt: skip
    look = {**config["report"], "title": TITLE}
    diversity = {**config["diversity"], "per_class": 2}
    return {
        **config, "experiment": kind, "generator": generator, "models": [model], "report": look, "diversity": diversity,
    }  # fmt: skip


def test_a_pipeline_runs_through_snakemake_to_its_report(checkout: Checkout) -> None:
    generated(checkout, experiment("text_to_image"))
    page = (checkout.folder / "results/text_to_image/report.html").read_text()
    assert "Braces {item} and &#39;quotes&#39; &#34; $HOME &lt;b&gt;" in page
    evaluation = pd.read_parquet(checkout.folder / "results/text_to_image/tables/evaluation.parquet")
    assert "synthetic-0.1" in set(evaluation["condition"])


def test_images_are_made_from_images_through_snakemake(checkout: Checkout) -> None:
    generated(checkout, experiment("image_to_image", strength=0.6), "--until", "generate")


def generated(checkout: Checkout, config: dict, *arguments: str) -> None:
    (checkout.folder / "own.yaml").write_text(yaml.safe_dump(config))
    checkout.snakemake("--cores", "2", *arguments, config="own.yaml")
    (folder,) = checkout.folder.glob(f"results/cache/generate/{config['experiment']}-*")
    prompts = pd.read_parquet(folder / "drawn.parquet").sort_values("index")["prompt"]
    assert prompts.iloc[[0, 10]].tolist() == ["a photo of a 0", PROMPTS[1].replace("{name}", "0")]
    assert len(prompts) == 2 * 10
