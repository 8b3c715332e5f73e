"""`diversity-spectra diff`: two checkpoints layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.spectra.progress import Progress, processors

EXAMPLE = """\
example:
  diversity-spectra diff before.safetensors after.safetensors
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    parser.add_argument("first", type=Path, metavar="A", help="weights: a file, or a folder that holds them")
    parser.add_argument("second", type=Path, metavar="B", help="weights of the same network")
    parser.add_argument("--out", type=Path, metavar="TABLE", help=".csv or .parquet (default: printed)")
    parser.add_argument(
        "--key", nargs="+", metavar="KEY", help="which state dict of PyTorch files: of A, and of B where it is another"
    )
    parser.add_argument("--threads", type=int, default=processors(), metavar="N", help="matrices at a time")


def run(arguments: argparse.Namespace) -> None:
    from diversity_spectra.spectra.command import claim
    from diversity_spectra.spectra.options import Options
    from diversity_spectra.spectra.summary import difference
    from diversity_spectra.spectra.table import Reference, analyse
    from diversity_spectra.tables import check_name, write_table

    if arguments.out:
        check_name(arguments.out)
        claim(arguments.out)
    keys = arguments.key or [None]
    if len(keys) > 2:
        raise UserError(f"--key: {len(keys)} given for two models")
    progress = Progress(f"{arguments.first.name} and {arguments.second.name}")
    first = analyse(
        arguments.first,
        options=Options(key=keys[0]),
        threads=arguments.threads,
        progress=lambda share: progress(share / 3),
    ).rows
    change = analyse(
        arguments.second,
        Reference.open(arguments.first, keys[0]),
        Options(key=keys[-1]),
        threads=arguments.threads,
        progress=lambda share: progress((1 + 2 * share) / 3),
    ).rows
    progress.close()
    table = difference(first, change)
    if arguments.out:
        write_table(arguments.out, table)
    else:
        print(told(table))


def told(table) -> str:
    """Layers in lines: a -> b for every measure."""
    width = max(len(layer) for layer in [*table["layer"], "layer"])
    head = ("alpha", "stable rank", "entropy")
    lines = [f"{'layer':<{width}}{'|dW|/|W|':>10}{'overlap':>9}" + "".join(f"{name:>18}" for name in head)]
    for row in table.to_dict("records"):
        pairs = [
            (row[f"{name}_a"], row[f"{name}_b"], digits)
            for name, digits in (("alpha", 2), ("stable_rank", 2), ("entropy", 3))
        ]
        cells = "".join(f"{f'{a:.{digits}f} > {b:.{digits}f}':>18}" for a, b, digits in pairs)
        lines.append(f"{row['layer']:<{width}}{row['relative_change']:>10.4f}{row['subspace_overlap']:>9.3f}{cells}")
    alike = int((table["relative_change"] == 0).sum())
    lines += ["", f"{len(table)} layers of both; {alike} unchanged" if alike else f"{len(table)} layers of both"]
    return "\n".join(lines)
