"""Put the tables of some hundred runs together, so that no later job has thousands of inputs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diversity_spectra.compare.job import Gather
from diversity_spectra.execution import add_job, publish, read_job
from diversity_spectra.jobs import read_record


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    parser.epilog = (
        "example: diversity-spectra gather --job results/cache/gather/runs-0-0123456789ab/spec.json --out again"
    )


def run(arguments: argparse.Namespace) -> None:
    """One row per run in `runs`, per run and test set in `evaluation`, per run, layer and matrix in `spectra`."""
    import pandas as pd

    job = read_job(arguments, Gather)
    with publish(job) as result:
        runs, evaluation, spectra = [], [], []
        for run in job.runs:
            identity = {"model": run.model, "condition": run.condition, "seed": run.seed}
            summary, metrics, rows = (Path(folder, file) for folder, file in run.files.items())
            summary = json.loads(summary.read_text())
            depth = {layer: position for position, layer in enumerate(summary.pop("layers"))}
            kappas = summary.pop("kappas")
            summary["dropout_places"] = ", ".join(summary["dropout_places"])
            runs.append({**identity, **summary, **made_by(read_record(run.finetune) or {}), "folder": run.finetune})
            evaluation.append(_labelled(pd.read_parquet(metrics), identity))
            rows = _labelled(pd.read_parquet(rows), identity)
            rows.insert(4, "depth", [_of_layer(layer, depth, -1) for layer in rows["layer"]])
            rows["kappa"] = [_of_layer(layer, kappas, 1.0) for layer in rows["layer"]]
            spectra.append(rows)
        pd.DataFrame(runs).to_parquet(result.folder / "runs.parquet", index=False)
        pd.concat(evaluation, ignore_index=True).to_parquet(result.folder / "evaluation.parquet", index=False)
        pd.concat(spectra, ignore_index=True).to_parquet(result.folder / "spectra.parquet", index=False)


def made_by(record: dict) -> dict[str, str]:
    """What trained a run, as its record says; empty where it does not."""
    names = {name: str(record.get(name) or "") for name in ("device", "machine")}
    return {**names, "torch": record.get("packages", {}).get("torch", "")}


def _of_layer(layer: str, known: dict, other: float) -> float:
    """What is known of a layer, by its name; of a part of a matrix (`attn.qkv[q]`) what is known of the whole."""
    layer = layer.split("[")[0]
    while layer not in known and "." in layer:
        layer = layer.rsplit(".", 1)[0]
    return known.get(layer, other)


def _labelled(frame, identity: dict):
    for position, (name, value) in enumerate(identity.items()):
        frame.insert(position, name, value)
    return frame
