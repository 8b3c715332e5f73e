"""The command `diversity-spectra`: one subcommand per stage, and others to plan, watch and compare.

Every subcommand is a module `command` with `configure(parser)` and `run(arguments)`; only the one that is asked for is
imported, so planning never pays for torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path

from diversity_spectra import __version__
from diversity_spectra.errors import Busy, UserError, explained
from diversity_spectra.stages import STAGES

# Module below the package, and what it does.
SUBCOMMANDS = {
    "init": ("planning.init", "write a short configuration for your images, and say what its runs will be able to see"),
    "check": ("planning.check", "validate a configuration"),
    "plan": ("planning.show", "conditions, training sets and number of jobs of a configuration"),
    "status": ("planning.status", "what is done, what is being made now, and what is left"),
    "why": ("planning.why", "say why a file would be made (again)"),
    "clean": ("planning.clean", "list or remove what configurations do not need of the cache"),
    "folders": ("data.export", "class folders from tables of paths and labels, Parquet files, tars, or metadata.csv"),
    **STAGES,
    "collect": ("compare.collect", "an experiment from checkpoints of another training: tables, comparison, report"),
    "diff": ("spectra.diff", "two checkpoints layer by layer"),
    "import-weightwatcher": ("compare.weightwatcher", "tables of WeightWatcher of finished trainings, compared"),
    "plot-esd": ("spectra.plot", "plot the spectrum of one layer with its fits"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    # Without a handler a SIGTERM would end Python at once and leave temporary folders behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    own, here = Path(__file__).parent, Path("workflow", __package__)
    if (here / "cli.py").is_file() and not here.samefile(own):
        print(f"note: this is the code of {own.parent}; PYTHONPATH=workflow runs that of this folder", file=sys.stderr)
    try:
        arguments = parse(argv)
        status = arguments.run(arguments) or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        print(error.told(), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        told = explained(error)
        if told is error:
            raise
        print(told.told(), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr, flush=True)
        if isinstance(stop, Busy):
            os._exit(128 + signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`). What is left of it would be an error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        # Full disks, missing rights and missing files are the machine's state, not defects of the program. Libraries
        # wrap the first of them in errors of their own.
        if "No space left on device" in str(error):
            print(f"error: No space left on device, below {os.getcwd()}", file=sys.stderr)
        elif isinstance(error, OSError):
            print(f"error: {error.strerror or error}: {error.filename or os.getcwd()}", file=sys.stderr)
        else:
            raise
        return 1


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments, with the subcommand's function as `run`."""
    parser = argparse.ArgumentParser(prog="diversity-spectra", description=__doc__.split("\n")[0])
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name, (module, summary) in SUBCOMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if argv and argv[0] == name:
            command = importlib.import_module(f"diversity_spectra.{module}")
            command.configure(subparser)
            subparser.set_defaults(run=command.run)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
