"""Command `sweep`: tables of several experiments in; their tables as one, figures and one HTML page out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from diversity_spectra.compare.job import compared_with
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, publish, read_job, restored
from diversity_spectra.files import atomic_file
from diversity_spectra.provenance import version
from diversity_spectra.sweep.job import Told, WriteSweep
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
    """Write tables, then figures, then report.html."""
    if arguments.job:
        job = read_job(arguments, WriteSweep)
        if not restored(job):
            links = [f"../{told.experiment}/report.html" for told in job.experiments]
            with publish(job) as result:
                result.facts["figures"] = _write(job, links, result.folder)
    elif arguments.tables and arguments.out:
        links = [os.path.relpath(folder.parent / "report.html", arguments.out) for folder in arguments.tables]
        _write(_job_for(arguments.tables, arguments.out), links, arguments.out)
        log.info("wrote %s", arguments.out / "report.html")
    else:
        raise UserError("give --job, or --tables and --out; see --help")


def _write(job: WriteSweep, links: list[str], out: Path) -> list[dict]:
    """Tables, figures and page; what the record says of each figure. links: from the page to those of the experiments."""
    import matplotlib as mpl

    from diversity_spectra.execution import versions
    from diversity_spectra.report import style
    from diversity_spectra.sweep import combine, page
    from diversity_spectra.sweep.figures import FIGURES

    palette = style.Palette(job.look.palette)
    parts = [
        combine.read(told, Path(folder), palette, Path(link).as_posix())
        for told, folder, link in zip(job.experiments, job.tables, links, strict=True)
    ]
    tables = combine.combined(parts)
    for name, table in tables.items():
        write_both(out / "tables", name, table)
    drawn = []
    with mpl.rc_context(style.rc(job.look.style)):
        for figure in FIGURES:
            drawing = figure.draw(tables, palette, page.confidence(parts))
            drawn.append(style.keep(figure, drawing, out / "figures", job.look.dpi))
            log.info("drew %s", figure.name)
    with atomic_file(out / "report.html") as path:
        path.write_text(page.render(parts, tables, drawn, job.sweep, versions(), version()), encoding="utf-8")
    return [one.fact for one in drawn]


def _job_for(folders: list[Path], out: Path) -> WriteSweep:
    """Experiments are called after the folders that hold their tables. Raises `UserError` where two have one name."""
    names = [folder.resolve().parent.name for folder in folders]
    if len(set(names)) != len(names):
        raise UserError(f"--tables: two experiments have the same name: {', '.join(names)}")
    levels = [compared_with(folder).get("level") for folder in folders]
    experiments = [Told(experiment=name, level=level) for name, level in zip(names, levels, strict=True)]
    return WriteSweep(sweep=out.resolve().name, experiments=experiments, tables=list(map(str, folders)))
