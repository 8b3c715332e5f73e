"""Command `report`: tables in, figures and one HTML page out."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from diversity_spectra.errors import UserError
from diversity_spectra.execution import add_job, log, read_job, versions
from diversity_spectra.files import atomic_file, sha256, write_json

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
    """Write figures/<name>.svg and .png, then report.html, then the record spec.json."""
    from diversity_spectra.report import load, page, style

    started = datetime.now(UTC)
    if arguments.job:
        job = read_job(arguments.job, str(arguments.out) if arguments.out else None)
    elif arguments.tables and arguments.out:
        settings = {"title": arguments.title, "experiment": arguments.tables.resolve().parent.name}
        job = {"settings": settings, "inputs": {"tables": str(arguments.tables)}, "out": str(arguments.out)}
    else:
        raise UserError("give --job, or --tables and --out; see --help")
    settings, out = job["settings"], Path(job["out"])
    material = load.material(settings, job["inputs"])
    drawn = _figures(material, out / "figures", style.rc(settings.get("style")), settings.get("dpi", 150))
    title = settings.get("title") or settings["experiment"]
    with atomic_file(out / "report.html") as path:
        path.write_text(page.render(material, drawn, title, settings["experiment"], versions()), encoding="utf-8")
    log.info("wrote %s", out / "report.html")
    if arguments.job:
        made = ["report.html", *(f"figures/{one.figure.name}{suffix}" for one in drawn for suffix in (".svg", ".png"))]
        record = {"outputs": {name: sha256(out / name) for name in made}, "packages": versions()}
        times = {"started": started, "ended": datetime.now(UTC)}
        record |= {name: time.isoformat(timespec="seconds") for name, time in times.items()}
        record["figures"] = [one.fact for one in drawn]
        write_json(out / "spec.json", {**job, **record})


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
