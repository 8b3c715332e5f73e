"""What an analysis depends on."""

from __future__ import annotations

from dataclasses import dataclass

from diversity_spectra.errors import UserError

CONVENTIONS = ("strict", "weightwatcher")
CONVOLUTIONS = ("unfolded", "positions")


@dataclass(frozen=True)
class Options:
    """Settings of `analyse`. Two equal settings give the same table, whatever the threads or the device's load.

    Attributes:
        convention: `strict`, or `weightwatcher` for the definitions of WeightWatcher 0.7.7.
        conv: strict only: a convolution as one (out, in * kernel) matrix, or as one (out, in) matrix per position.
        pool: weightwatcher only: pool the eigenvalues of all kernel positions in one row.
        mp: weightwatcher only: its Marchenko-Pastur fit (strict always has its own, which is cheap).
        randomize: also analyse each matrix with its elements shuffled.
        seed: of shuffles and bootstraps; each layer derives its own from it and from its name.
        bootstrap: synthetic samples for the interval of alpha and the goodness of fit with xmin chosen anew in each; 0
            gives both at fixed xmin, which makes the interval too narrow and p too large (docs/spectra.md).
        alternatives: likelihood ratios of the tail against other distributions.
        subspace: number k of leading singular vectors compared with the reference; 0 for none.
        min_eigenvalues: matrices with fewer eigenvalues are not analysed; 8 is WeightWatcher's limit.
        include, exclude: patterns (`fnmatch`) of names of parameters or layers, one or several; empty `include` takes all.
        key: where the state dict stands in a PyTorch file that holds several, or which of several adapters.
        groups: `PATTERN=N`, groups of the convolutions with such names, which are inferred otherwise.
    """

    convention: str = "strict"
    conv: str = "unfolded"
    pool: bool = True
    mp: bool = False
    randomize: bool = False
    seed: int = 0
    bootstrap: int = 0
    alternatives: bool = False
    subspace: int = 10
    min_eigenvalues: int = 8
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    key: str | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, allowed in (("convention", CONVENTIONS), ("conv", CONVOLUTIONS)):
            if getattr(self, name) not in allowed:
                raise UserError(f"spectra: {name} is {getattr(self, name)!r}, allowed: {', '.join(allowed)}")
        for name in ("bootstrap", "subspace", "min_eigenvalues"):
            if getattr(self, name) < 0:
                raise UserError(f"spectra: {name} is {getattr(self, name)}, allowed: 0 or more")
        for name in ("include", "exclude", "groups"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
