"""Diversity of one image set, as a job of the workflow."""

from __future__ import annotations

import argparse

from diversity_spectra.execution import publish, read_job


def run_job(arguments: argparse.Namespace) -> None:
    """The subcommand with the job's settings; `quality.parquet` is empty where there is nothing to compare with."""
    import pandas as pd

    from diversity_spectra.diversity.command import measure

    job = read_job(arguments.job)
    settings, inputs = job["settings"], job["inputs"]
    with publish(job) as folder:
        compared = "reference" in inputs
        measure(
            argparse.Namespace(
                image_set=inputs["images"],
                out=folder / "scores.parquet",
                embedding=settings["embedding"],
                image_size=settings["image_size"],
                orders=[float(order) for order in settings["orders"]],
                per_class=settings["per_class"],
                subsamples=settings["subsamples"],
                seed=settings["seed"],
                device=_device(arguments, settings["embedding"]),
                reference=inputs.get("reference"),
                test=inputs.get("test"),
                logits=None,
                quality=folder / "quality.parquet" if compared else None,
                copies=folder / "copies.parquet" if compared else None,
            )
        )
        if not compared:
            empty = pd.DataFrame(columns=["measure", "label", "value", "low", "high", "n"])
            empty.to_parquet(folder / "quality.parquet", index=False)


def _device(arguments: argparse.Namespace, embedding: str) -> str:
    if embedding == "none":
        return "cpu"
    from diversity_spectra import devices

    return str(devices.choose(arguments.device, arguments.threads))
