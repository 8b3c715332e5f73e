"""Put the tables of some hundred runs together, so that no later job has thousands of inputs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diversity_spectra.execution import add_job, check_input, publish, read_job


def configure(parser: argparse.ArgumentParser) -> None:
    add_job(parser)
    parser.epilog = (
        "example: diversity-spectra gather --job results/cache/gather/runs-0-0123456789ab/spec.json --out again"
    )


def run(arguments: argparse.Namespace) -> None:
    """One row per run in `runs`, per run and test set in `evaluation`, per run, layer and matrix in `spectra`."""
    import pandas as pd

    job = read_job(arguments.job, arguments.out)
    runs, evaluation, spectra = [], [], []
    for entry in job["settings"]["runs"]:
        for stage in ("finetune", "evaluate", "spectra"):
            check_input(entry[stage])
        identity = {key: entry[key] for key in ("model", "condition", "seed")}
        summary = json.loads((Path(entry["finetune"]) / "run.json").read_text())
        depth = {layer: position for position, layer in enumerate(summary.pop("layers"))}
        summary["dropout_places"] = ", ".join(summary["dropout_places"])
        runs.append({**identity, **summary, "folder": entry["finetune"]})
        evaluation.append(_labelled(pd.read_parquet(Path(entry["evaluate"]) / "metrics.parquet"), identity))
        rows = _labelled(pd.read_parquet(Path(entry["spectra"]) / "rows.parquet"), identity)
        rows.insert(4, "depth", [_depth(layer, depth) for layer in rows["layer"]])
        spectra.append(rows)
    with publish(job) as folder:
        pd.DataFrame(runs).to_parquet(folder / "runs.parquet", index=False)
        pd.concat(evaluation, ignore_index=True).to_parquet(folder / "evaluation.parquet", index=False)
        pd.concat(spectra, ignore_index=True).to_parquet(folder / "spectra.parquet", index=False)


def _depth(layer: str, depth: dict[str, int]) -> int:
    """Position of a layer from input to output; a part of a matrix (`attn.qkv[q]`) stands where the whole does."""
    layer = layer.split("[")[0]
    while layer not in depth and "." in layer:
        layer = layer.rsplit(".", 1)[0]
    return depth.get(layer, -1)


def _labelled(frame, identity: dict):
    for position, (name, value) in enumerate(identity.items()):
        frame.insert(position, name, value)
    return frame
