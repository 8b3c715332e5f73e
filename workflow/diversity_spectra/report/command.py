"""Command `report`: tables in, figures and one HTML page out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from diversity_spectra.compare.job import compared_with
from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, add_threads, log, publish, read_job, restored, versions
from diversity_spectra.files import atomic_file
from diversity_spectra.provenance import version
from diversity_spectra.report.job import WriteReport

if TYPE_CHECKING:
    from diversity_spectra.report.material import Material
    from diversity_spectra.report.section import Drawn, Figure

EXAMPLE = """example (the tables of any experiment; sample images and eigenvalues come only with --job):
  diversity-spectra report --tables results/digits/tables --out somewhere
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLE
    add_job(parser, alone=False)
    add_threads(parser)
    parser.add_argument("--tables", type=Path, help="without --job: folder with the tables (.parquet or .csv)")
    parser.add_argument("--out", type=Path, help="folder for report.html and figures/")
    parser.add_argument("--title", default="", help="without --job: heading of the page")


def run(arguments: argparse.Namespace) -> None:
    """Write figures/<name>.svg and .png, then report.html."""
    if arguments.job:
        job = read_job(arguments, WriteReport)
        if not restored(job):
            with publish(job) as result:
                result.facts["figures"] = write(job, result.folder, arguments.threads)
    elif arguments.tables and arguments.out:
        folder = arguments.tables
        job = WriteReport(
            look={"title": arguments.title}, experiment=folder.resolve().parent.name,
            config={"compare": compared_with(folder)}, tables=str(folder),
        )  # fmt: skip
        write(job, arguments.out, arguments.threads)
        log.info("wrote %s", arguments.out / "report.html")
    else:
        raise UserError("give --job, or --tables and --out; see --help")


def write(job: WriteReport, out: Path, processes: int = 1) -> list[dict]:
    """What the record says of each figure."""
    from diversity_spectra.report import load, page, style

    material = load.material(job)
    drawn = _figures(material, out / "figures", style.rc(job.look.style), job.look.dpi, processes)
    title = job.look.title or job.experiment
    with atomic_file(out / "report.html") as path:
        path.write_text(page.render(material, drawn, title, job.experiment, versions(), version()), encoding="utf-8")
    return [one.fact for one in drawn]


def _figures(material: Material, folder: Path, rc: dict, dpi: int, processes: int) -> list[Drawn]:
    """Draw and save every figure, in so many processes; what the page needs of each."""
    import matplotlib as mpl

    from diversity_spectra.report import style
    from diversity_spectra.report.sections import figures_of

    def draw(figure: Figure) -> Drawn:
        with mpl.rc_context(rc):
            return style.keep(figure, figure.draw(material, figure.model), folder, dpi)

    figures, drawn = figures_of(material.models), []
    # Processes begin with all that was read, so that only figures travel.
    with ProcessPoolExecutor(processes, get_context("fork"), _begin, (draw,)) as pool:
        for figure, one in zip(figures, pool.map(_draw, figures) if processes > 1 else map(draw, figures), strict=True):
            drawn.append(one)
            log.info("drew %s", figure.name)
    return drawn


_drawing: Callable[[Figure], Drawn]


def _begin(draw: Callable[[Figure], Drawn]) -> None:
    global _drawing
    _drawing = draw


def _draw(figure: Figure) -> Drawn:
    return _drawing(figure)
