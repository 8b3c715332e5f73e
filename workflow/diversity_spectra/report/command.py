"""Command `report`: tables in, figures and one HTML page out."""

from __future__ import annotations

import argparse
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, publish, read_job, restored, versions
from diversity_spectra.files import atomic_file
from diversity_spectra.provenance import version
from diversity_spectra.report.job import WriteReport

EXAMPLE = """example (the tables of any experiment; sample images and eigenvalues come only with --job):
  diversity-spectra report --tables results/digits/tables --out somewhere
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add_job(parser, alone=False)
    parser.add_argument("--tables", type=Path, help="without --job: folder with the tables (.parquet or .csv)")
    parser.add_argument("--out", type=Path, help="folder for report.html and figures/")
    parser.add_argument("--title", default="", help="without --job: heading of the page")


def run(arguments: argparse.Namespace) -> None:
    """Write figures/<name>.svg and .png, then report.html."""
    if arguments.job:
        job = read_job(arguments, WriteReport)
        if not restored(job):
            with publish(job) as result:
                result.facts["figures"] = write(job, result.folder)
    elif arguments.tables and arguments.out:
        look = {"title": arguments.title}
        experiment = arguments.tables.resolve().parent.name
        write(WriteReport(look=look, experiment=experiment, tables=str(arguments.tables)), arguments.out)
        log.info("wrote %s", arguments.out / "report.html")
    else:
        raise UserError("give --job, or --tables and --out; see --help")


def write(job: WriteReport, out: Path) -> list[dict]:
    """What the record says of each figure."""
    from diversity_spectra.report import load, page, style

    material = load.material(job)
    drawn = _figures(material, out / "figures", style.rc(job.look.style), job.look.dpi)
    title = job.look.title or job.experiment
    with atomic_file(out / "report.html") as path:
        path.write_text(page.render(material, drawn, title, job.experiment, versions(), version()), encoding="utf-8")
    return [one.fact for one in drawn]


def _figures(material, folder: Path, rc: dict, dpi: int) -> list:
    """Draw and save every figure; what the page needs of each."""
    import matplotlib as mpl

    from diversity_spectra.report import style
    from diversity_spectra.report.sections import figures_of

    drawn = []
    with mpl.rc_context(rc):
        for figure in figures_of(material.models):
            drawn.append(style.keep(figure, figure.draw(material, figure.model), folder, dpi))
            log.info("drew %s", figure.name)
    return drawn
