"""Command `sweep`: tables of several experiments in; their tables as one, figures and one HTML page out."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, read_job, record
from diversity_spectra.files import atomic_file, write_json
from diversity_spectra.tables import write_both

EXAMPLE = """example (experiments that were run one by one):
  diversity-spectra sweep --tables results/digits/tables results/fashion/tables --out results/both
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add_job(parser, alone=False)
    parser.add_argument(
        "--tables", type=Path, nargs="+", help="without --job: folders with tables, results/<experiment>/tables"
    )
    parser.add_argument("--out", type=Path, help="folder for report.html, tables/ and figures/")


def run(arguments: argparse.Namespace) -> None:
    """Write tables, then figures, then report.html, then the record spec.json."""
    from diversity_spectra.report import style
    from diversity_spectra.sweep import combine

    started = datetime.now(UTC)
    if arguments.job:
        job = read_job(arguments.job, str(arguments.out) if arguments.out else None)
    elif arguments.tables and arguments.out:
        job = _job_for(arguments.tables, arguments.out)
    else:
        raise UserError("give --job, or --tables and --out; see --help")
    settings, out = job["settings"], Path(job["out"])
    palette = style.Palette(settings.get("palette", "colorblind"))
    parts = [
        combine.read(told["experiment"], Path(folder), told, palette, _link(folder, out))
        for told, folder in zip(settings["experiments"], job["inputs"]["tables"], strict=True)
    ]
    tables = combine.combined(parts)
    drawn = _write(parts, tables, settings, palette, out)
    if arguments.job:
        write_json(out / "spec.json", record(job, out, started, figures=[one.fact for one in drawn]))


def _write(parts: list, tables: dict, settings: dict, palette, out: Path) -> list:
    import matplotlib as mpl

    from diversity_spectra.execution import versions
    from diversity_spectra.report import style
    from diversity_spectra.sweep import FIGURES, page
    from diversity_spectra.sweep.figures import DRAW

    for name, table in tables.items():
        write_both(out / "tables", name, table)
    drawn = []
    with mpl.rc_context(style.rc(settings.get("style"))):
        for figure in FIGURES:
            drawing = DRAW[figure.kind](tables, palette, page.confidence(parts))
            drawn.append(style.keep(figure, drawing, out / "figures", settings.get("dpi", 150)))
            log.info("drew %s", figure.name)
    with atomic_file(out / "report.html") as path:
        path.write_text(page.render(parts, tables, drawn, settings["sweep"], versions()), encoding="utf-8")
    log.info("wrote %s", out / "report.html")
    return drawn


def _job_for(folders: list[Path], out: Path) -> dict:
    """Experiments are called after the folders that hold their tables. Raises `UserError` where two have one name."""
    names = [folder.resolve().parent.name for folder in folders]
    if len(set(names)) != len(names):
        raise UserError(f"--tables: two experiments have the same name: {', '.join(names)}")
    settings = {"sweep": out.resolve().name, "experiments": [{"experiment": name} for name in names]}
    return {"settings": settings, "inputs": {"tables": list(map(str, folders))}, "out": str(out)}


def _link(tables: str, out: Path) -> str:
    """From the page to the report of the experiment, which lies beside its tables."""
    return Path(os.path.relpath(Path(tables).parent / "report.html", out)).as_posix()
