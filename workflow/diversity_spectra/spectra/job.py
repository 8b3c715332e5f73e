"""Spectra of a block of runs, as a job of the workflow."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from diversity_spectra.execution import check_input, finished, log, publish, read_job
from diversity_spectra.files import write_npz


def run_job(arguments: argparse.Namespace) -> None:
    """Rows and eigenvalues of every seed's model; the reference and its decomposition are shared by all."""
    from diversity_spectra.spectra.options import Options
    from diversity_spectra.spectra.table import Reference, analyse

    job = read_job(arguments.job)
    options = Options(**job["settings"])
    pretrained = job["inputs"].get("pretrained")
    reference = Reference.open(Path(pretrained) / "model.safetensors") if pretrained else None
    for seed in arguments.seeds:
        if finished(f"{job['out']}/seed-{seed}", job["key"]):
            continue
        run = Path(job["inputs"]["runs"]) / f"seed-{seed}"
        check_input(run)
        kappa = json.loads((run / "run.json").read_text())["kappa"]
        with publish(job, Path(job["out"]) / f"seed-{seed}", seed=seed) as folder:
            result = analyse(run / "model.safetensors", reference, options, kappa, arguments.threads)
            result.rows.to_parquet(folder / "rows.parquet", index=False)
            write_npz(folder / "eigenvalues.npz", result.eigenvalues)
        log.info("seed %d: %d rows", seed, len(result.rows))
