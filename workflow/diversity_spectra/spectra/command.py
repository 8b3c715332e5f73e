"""`diversity-spectra spectra`: spectra of the weight matrices of one or several models."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, add_weights, drop_weights, finished, log, publish, read_job
from diversity_spectra.jobs import WEIGHTS
from diversity_spectra.spectra.job import Analyse
from diversity_spectra.spectra.progress import Progress, processors
from diversity_spectra.tables import check_name

if TYPE_CHECKING:
    import pandas as pd

EXAMPLE = """\
example:
  diversity-spectra spectra model.safetensors
  diversity-spectra spectra model.safetensors --reference pretrained.safetensors --out rows.csv --eigenvalues eigs.npz

Several models may be given, with one --out (and --eigenvalues) each; the reference is then read once.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add_job(parser, alone=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="with --job: the runs to analyse")
    add_weights(parser)
    parser.add_argument(
        "models", nargs="*", type=Path, metavar="MODEL", help="weights: a file, or a folder that holds them"
    )
    parser.add_argument(
        "--out",
        nargs="+",
        type=Path,
        metavar="ROWS",
        help=".csv or .parquet, one per model; - prints the table; without it a summary is printed",
    )
    parser.add_argument(
        "--eigenvalues", nargs="+", type=Path, metavar="NPZ", help="write the eigenvalues, one per model"
    )
    parser.add_argument("--reference", type=Path, help="pretrained weights, or the base of a LoRA adapter")
    parser.add_argument(
        "--kappa", nargs="+", type=float, help="product of (1 - learning rate * decay) over training, one per model"
    )
    parser.add_argument("--convention", choices=("strict", "weightwatcher"), default="strict")
    parser.add_argument("--conv", choices=("unfolded", "positions"), help="strict: convolutions as (default: unfolded)")
    parser.add_argument("--no-pool", action="store_true", help="weightwatcher: one row per kernel position")
    parser.add_argument(
        "--mp", action="store_true", help="weightwatcher: fit the Marchenko-Pastur law (strict always does)"
    )
    parser.add_argument("--randomize", action="store_true", help="also analyse shuffled matrices")
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="N", help="samples for alpha's interval and goodness of fit"
    )
    parser.add_argument("--alternatives", action="store_true", help="compare the tail with other distributions")
    parser.add_argument("--include", nargs="+", default=(), metavar="PATTERN", help="only such parameters or layers")
    parser.add_argument("--exclude", nargs="+", default=(), metavar="PATTERN", help="no such parameters or layers")
    parser.add_argument(
        "--key", help="which state dict of a PyTorch file (keys joined by dots), or which adapter of several"
    )
    parser.add_argument("--reference-key", metavar="KEY", help="which state dict of the reference's PyTorch file")
    parser.add_argument(
        "--groups", nargs="+", default=(), metavar="PATTERN=N", help="strict: groups of convolutions, else inferred"
    )
    parser.add_argument("--seed", type=int, default=0, help="of shuffles and resamples (default: 0)")
    parser.add_argument("--threads", type=int, default=processors(), metavar="N", help="matrices at a time")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def run(arguments: argparse.Namespace) -> int | None:
    from diversity_spectra.files import write_npz
    from diversity_spectra.spectra.options import Options
    from diversity_spectra.spectra.summary import summary
    from diversity_spectra.spectra.table import Reference, Stopped, analyse

    if arguments.job:
        return _run_job(arguments)
    _check(arguments)
    options = Options(
        convention=arguments.convention,
        conv=arguments.conv or "unfolded",
        pool=not arguments.no_pool,
        mp=arguments.mp,
        randomize=arguments.randomize,
        seed=arguments.seed,
        bootstrap=arguments.bootstrap,
        alternatives=arguments.alternatives,
        include=arguments.include,
        exclude=arguments.exclude,
        key=arguments.key,
        groups=arguments.groups,
    )
    for path in (*(arguments.out or ()), *(arguments.eigenvalues or ())):
        claim(path)
    reference = Reference.open(arguments.reference, arguments.reference_key) if arguments.reference else None
    written, stopped = [], False
    for index, model in enumerate(arguments.models):
        kappa = arguments.kappa[index] if arguments.kappa else None
        progress = Progress(model.name)
        try:
            result = analyse(model, reference, options, kappa, arguments.threads, arguments.device, progress)
        except Stopped as stop:
            result, stopped = stop.result, True
        progress.close()
        analysed = int(result.rows["analysed"].sum())
        if arguments.out:
            _write(arguments.out[index], result.rows)
            written.append(f"{len(result.rows)} rows to {arguments.out[index]}")
        elif analysed:
            print(summary(result.rows, model.name), flush=True)
        if arguments.eigenvalues:
            write_npz(arguments.eigenvalues[index], result.eigenvalues)
            written.append(f"eigenvalues to {arguments.eigenvalues[index]}")
        if stopped:
            told = [f"stopped after {analysed} matrices", *([f"wrote {', '.join(written)}"] if written else [])]
            print("; ".join(told), file=sys.stderr, flush=True)
            # Threads inside LAPACK would be waited for at a regular exit.
            os._exit(128 + signal.SIGINT)
        if not analysed:
            reasons = ", ".join(result.rows["reason"].value_counts().index[:3])
            see = f"; see {arguments.out[index]}" if arguments.out else ""
            raise UserError(f"{model}: no matrix could be analysed ({reasons}){see}")
    if written:
        print(f"wrote {', '.join(written)}", file=sys.stderr)
    return 0


def _run_job(arguments: argparse.Namespace) -> None:
    """Rows and eigenvalues of every seed's model, each beside the weights that its training started from."""
    from diversity_spectra.files import write_npz
    from diversity_spectra.finetune.start import started_from
    from diversity_spectra.spectra.live import live
    from diversity_spectra.spectra.options import Options
    from diversity_spectra.spectra.table import Reference, analyse

    *others, out = arguments.out or [None]
    if not arguments.seeds or others or arguments.models:
        raise UserError("--job: name the runs with --seeds, if need be one folder with --out, and no MODEL")
    job = read_job(argparse.Namespace(job=arguments.job, out=out), Analyse)
    options = Options(**job.analysis.model_dump())
    pretrained = Reference.open(Path(job.pretrained, WEIGHTS)) if job.pretrained else None
    vectors: dict = {}
    for seed in arguments.seeds:
        if finished(job, seed):
            drop_weights(arguments, job, seed)
            continue
        trained = Path(job.runs) / f"seed-{seed}"
        with publish(job, seed, threads=arguments.threads) as made:
            start = started_from(trained, job.pretrained)
            reference = Reference(live(start), vectors) if start else pretrained
            kappas = json.loads((trained / "run.json").read_text())["kappas"]
            result = analyse(trained / WEIGHTS, reference, options, kappas, arguments.threads)
            result.rows.to_parquet(made.folder / "rows.parquet", index=False)
            write_npz(made.folder / "eigenvalues.npz", result.eigenvalues)
        drop_weights(arguments, job, seed)
        log.info("seed %d: %d rows", seed, len(result.rows))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what contradicts itself or would be ignored."""
    if not arguments.models:
        raise UserError("name the model's file; see --help")
    for option in ("out", "eigenvalues", "kappa"):
        given = getattr(arguments, option)
        if given is not None and len(given) != len(arguments.models):
            raise UserError(f"--{option}: {len(given)} given for {len(arguments.models)} models")
    for path in arguments.out or ():
        if str(path) != "-":
            check_name(path)
    files = [path.resolve() for path in (*(arguments.out or ()), *(arguments.eigenvalues or ())) if str(path) != "-"]
    for path in files:
        if files.count(path) > 1 or path in [model.resolve() for model in arguments.models]:
            raise UserError(f"{path}: named twice; each table, file of eigenvalues and model needs a file of its own")
    ignored = {
        "strict": {"--mp": arguments.mp, "--no-pool": arguments.no_pool},
        "weightwatcher": {
            "--bootstrap": arguments.bootstrap,
            "--alternatives": arguments.alternatives,
            "--conv": arguments.conv,
            "--groups": arguments.groups,
        },
    }
    for option, given in ignored[arguments.convention].items():
        if given:
            raise UserError(f"{option}: the convention {arguments.convention} has no such thing; leave it out")
    if arguments.reference_key is not None and not arguments.reference:
        raise UserError("--reference-key: says which state dict of --reference, which is missing")
    if arguments.kappa and not arguments.reference:
        raise UserError("--kappa: W - kappa * W_pretrained needs --reference")


def claim(path: Path) -> None:
    """Find out before the work whether a file can be written."""
    if str(path) == "-":
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def _write(path: Path, rows: pd.DataFrame) -> None:
    from diversity_spectra.tables import write_table

    if str(path) == "-":
        rows.to_csv(sys.stdout, index=False)
    else:
        write_table(path, rows)
