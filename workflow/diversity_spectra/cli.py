"""The command `diversity-spectra`: one subcommand per stage, plus `plan`, `check`, `why` and `plot-esd`.

Every subcommand is a module `command` with `configure(parser)` and `run(arguments)`; only the one that is asked for is
imported, so planning never pays for torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys

from diversity_spectra import __version__
from diversity_spectra.costs import ledger
from diversity_spectra.errors import UserError

SUBCOMMANDS = {
    "check": ("diversity_spectra.planning.check", "validate a configuration"),
    "plan": ("diversity_spectra.planning.show", "conditions, training sets and number of jobs of a configuration"),
    "why": ("diversity_spectra.planning.why", "say why a file would be made (again)"),
    "data": ("diversity_spectra.data.command", "prepare image sets from a data set"),
    "generate": ("diversity_spectra.generate.command", "generate synthetic images with a diffusion model"),
    "augment": ("diversity_spectra.augment.command", "build the training set of one data recipe"),
    "diversity": ("diversity_spectra.diversity.command", "measure the diversity of an image set"),
    "finetune": ("diversity_spectra.finetune.command", "train a model for one condition and a block of seeds"),
    "evaluate": ("diversity_spectra.evaluate.command", "predict and score, in and out of distribution"),
    "spectra": ("diversity_spectra.spectra.command", "spectra of the weight matrices of a model"),
    "plot-esd": ("diversity_spectra.spectra.plot", "plot the spectrum of one layer with its fits"),
    "gather": ("diversity_spectra.compare.gather", "put the tables of some hundred runs together"),
    "compare": ("diversity_spectra.compare.command", "compare all conditions with dropout and weight decay"),
    "report": ("diversity_spectra.report.command", "figures and report.html from the tables"),
    "sweep": ("diversity_spectra.sweep.command", "one report over several experiments, from their tables"),
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    ledger.begin()
    # Without a handler a SIGTERM would end Python at once and leave temporary folders behind.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        arguments = parse(argv)
        status = arguments.run(arguments) or 0
        sys.stdout.flush()
        if status == 0:
            ledger.close(getattr(arguments, "threads", 1))
        return status
    except UserError as error:
        print(error.told(), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
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
            command = importlib.import_module(module)
            command.configure(subparser)
            subparser.set_defaults(run=command.run)
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
