"""Eigenvalues of large symmetric matrices by two-stage tridiagonalisation, which NumPy and SciPy do not offer.

The usual reduction to tridiagonal form does half of its work in products of the matrix with single vectors, which wait for
memory. In two stages, full to band and band to tridiagonal, nearly all of it is in products of matrices (Haidar, Ltaief
and Dongarra, "Parallel reduction to condensed forms for symmetric eigenvalue problems", SC'11). LAPACK has had it since
3.7 (dsytrd_sy2sb, dsytrd_sb2st, dsterf), and so has the OpenBLAS that NumPy and SciPy bring, where it is called here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

# From this size on it is faster: 1.0 of the time of eigvalsh at 2048, 0.67 at 3072, 0.54 at 4096 (one thread).
SMALLEST = 2048
# Width of the band: wider ones leave more to the second stage, narrower ones more to the first.
BAND = 64


def eigvalsh(matrix: np.ndarray) -> np.ndarray:
    """Ascending eigenvalues of a symmetric (n, n) float64 matrix, by whichever way is faster for its size."""
    routines = two_stage() if len(matrix) >= SMALLEST else None
    return np.linalg.eigvalsh(matrix) if routines is None else routines(matrix)


@cache
def two_stage() -> Callable[[np.ndarray], np.ndarray] | None:
    """The function that computes eigenvalues in two stages, or None where no loaded library has the routines."""
    from threadpoolctl import threadpool_info

    for library in threadpool_info():
        if library["user_api"] != "blas":
            continue
        try:
            loaded = ctypes.CDLL(library["filepath"])
        except OSError:
            continue
        # NumPy's build prefixes and suffixes all names, with 64-bit integers; SciPy's prefixes them, with 32-bit ones.
        for pattern, integer in (("scipy_{}_64_", np.int64), ("scipy_{}_", np.int32), ("{}_64_", np.int64)):
            names = [pattern.format(name) for name in ("dsytrd_sy2sb", "dsytrd_sb2st", "dsterf")]
            if all(hasattr(loaded, name) for name in names):
                return _bind([getattr(loaded, name) for name in names], integer)
    return None


def _bind(functions: list, integer: type) -> Callable[[np.ndarray], np.ndarray]:
    to_band, to_tridiagonal, finish = functions

    def call(function, *arguments) -> None:
        """Call a Fortran routine: all by address, strings' lengths at the end, the status added before them."""
        status = np.zeros(1, integer)
        converted = [
            np.array([argument], integer) if isinstance(argument, int) else argument
            for argument in (*arguments, status)
        ]
        lengths = [ctypes.c_size_t(1) for argument in arguments if isinstance(argument, bytes)]
        addresses = [
            ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_void_p(argument.ctypes.data)
            for argument in converted
        ]
        function(*addresses, *lengths)
        if status[0]:
            raise np.linalg.LinAlgError(f"{function.__name__} returned {status[0]}")

    def eigenvalues(matrix: np.ndarray) -> np.ndarray:
        size, width = len(matrix), min(BAND, len(matrix) - 1)
        full = np.array(matrix, np.float64, order="F")
        band, factors, query = np.zeros((width + 1, size), order="F"), np.empty(size), np.zeros(1)
        first = (b"L", size, width, full, size, band, width + 1, factors)
        call(to_band, *first, query, -1)
        work = np.empty(int(query[0]))
        call(to_band, *first, work, len(work))
        del full
        diagonal, beside, reflectors = np.empty(size), np.empty(size - 1), np.zeros(1)
        second = (b"Y", b"N", b"L", size, width, band, width + 1, diagonal, beside)
        call(to_tridiagonal, *second, reflectors, -1, query, -1)
        reflectors, work = np.empty(max(1, int(reflectors[0]))), np.empty(max(1, int(query[0])))
        call(to_tridiagonal, *second, reflectors, len(reflectors), work, len(work))
        call(finish, size, diagonal, beside)
        return diagonal

    return eigenvalues
