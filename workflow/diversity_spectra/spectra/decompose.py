"""Eigenvalues of W^T W in float64, from blocks, with memory bounded by one matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np

from diversity_spectra.errors import UserError
from diversity_spectra.spectra import lapack
from diversity_spectra.spectra.low_rank import Product

# The eigenvalues of a Gram matrix carry an absolute error of up to this times the largest one (2e-15 to 2e-14 measured for
# 512 to 4096 columns).
GRAM_NOISE = 1e-13
# Below this ratio of smallest to largest, the error is more than 1e-6 of the smallest: where that matters, singular values
# are computed directly, at five times the cost.
GRAM_LIMIT = 1e-9
# Below this an eigenvalue is a sum of squares that may have lost digits or vanished.
SMALLEST = 1e-300
# Values converted to float64 at a time (32 MB): large enough for the matrix product to run at full speed.
BLOCK = 4_000_000


class NoEigenvalues(Exception):
    """The matrix has no eigenvalues that float64 holds; the message says why."""


class Combination:
    """A linear combination of arrays of one shape, evaluated in float64 block by block.

    W is one term; W - kappa * W_pretrained are two. Nothing of the full size is allocated beside the terms.
    """

    def __init__(self, *terms: tuple[float, np.ndarray | Product]):
        shape = terms[0][1].shape
        # Tall orientation: the Gram matrix is then of the shorter side.
        self.terms = [(factor, array if shape[0] >= shape[1] else array.T) for factor, array in terms]
        self.shape = self.terms[0][1].shape

    def blocks(self) -> Iterator[np.ndarray]:
        """Consecutive float64 blocks of rows."""
        step = max(1, BLOCK // self.shape[1])
        for start in range(0, self.shape[0], step):
            rows = slice(start, start + step)
            (factor, array), *others = self.terms
            block = array[rows].astype(np.float64)
            if factor != 1:
                block *= factor
            for factor, array in others:
                block += factor * array[rows].astype(np.float64)
            yield block

    def row_powers(self) -> np.ndarray:
        """(N,) sums of squares of the tall matrix's rows."""
        return np.concatenate([np.einsum("ij,ij->i", block, block) for block in self.blocks()])

    def full(self) -> np.ndarray:
        """The (N, M) matrix in float64, N >= M."""
        return np.concatenate(list(self.blocks()))

    @property
    def product(self) -> Product | None:
        """This matrix as a product of thin factors, where it is given as one."""
        factor, array = self.terms[0]
        known = len(self.terms) == 1 and isinstance(array, Product)
        return Product(factor * array.left, array.right) if known else None

    def take(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some rows of the tall matrix, (number, M) float64."""
        return sum(factor * array[rows].astype(np.float64) for factor, array in self.terms)

    @cached_property
    def gram(self) -> np.ndarray:
        """The (M, M) float64 matrix A^T A, A being this matrix in its tall orientation; kept once computed."""
        total = None
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is looked at by who takes the eigenvalues
            for block in self.blocks():
                product = block.T @ block
                total = product if total is None else np.add(total, product, out=total)
        return total


def check_device(device: str) -> None:
    """Raises `UserError` for a GPU where torch finds none; `cpu` needs no torch."""
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise UserError(f"device {device}: torch finds no GPU here; take cpu")


def eigenvalues(
    matrices: list[Combination], device: str = "cpu", to_the_last: bool = True
) -> tuple[list[np.ndarray], str]:
    """All M = min(shape) eigenvalues of W^T W (squared singular values, not divided by N) of matrices of one shape.

    Args:
        matrices: of one shape, e.g. the positions of a convolution kernel.
        device: `cpu`, or a device of torch, on which the matrices are decomposed together.
        to_the_last: also the smallest are wanted accurately, relative to themselves. Weights stored in 32 bits or fewer
            do not hold them as accurately as the Gram matrix gives them.

    Returns:
        Ascending, not negative (M,) arrays, and the method: `gram`, `factors` for products of thin ones, or `svd` where the
        smallest are wanted and a Gram matrix was not accurate enough (`GRAM_LIMIT`).

    Raises:
        NoEigenvalues: a matrix holds NaN or infinite values, or such whose squares overflow or underflow.
    """
    if all(matrix.product for matrix in matrices):
        return [_of_product(matrix.product) for matrix in matrices], "factors"
    if device == "cpu":
        spectra = [lapack.eigvalsh(_finite(matrix)) for matrix in matrices]
    else:
        spectra = _torch_eigenvalues(matrices, device)
    method = "gram"
    for index, values in enumerate(spectra):
        if values[-1] < SMALLEST and any(block.any() for block in matrices[index].blocks()):
            raise NoEigenvalues("values below 1e-150: their squares underflow")
        if to_the_last and values[0] <= GRAM_LIMIT * values[-1] and values[-1] > 0:
            spectra[index], method = np.sort(singular_values(matrices[index]) ** 2), "svd"
    return [np.maximum(values, 0) for values in spectra], method


def _of_product(product: Product) -> np.ndarray:
    if not all(np.isfinite(factor).all() for factor in (product.left, product.right)):
        raise NoEigenvalues("holds NaN or infinite values")
    return product.eigenvalues()


def _finite(matrix: Combination) -> np.ndarray:
    if not np.isfinite(matrix.gram).all():
        raise NoEigenvalues(_why_not_finite(matrix))
    return matrix.gram


def _why_not_finite(matrix: Combination) -> str:
    if all(np.isfinite(block).all() for block in matrix.blocks()):
        return "values beyond 1e150: their squares overflow"
    return "holds NaN or infinite values"


def _torch_eigenvalues(matrices: list[Combination], device: str) -> list[np.ndarray]:
    """Gram matrices and their eigenvalues in float64 on a device, which holds one block and all the squares."""
    import torch

    squares = []
    for matrix in matrices:
        total = 0
        for block in matrix.blocks():
            on_device = torch.from_numpy(block).to(device)
            total = total + on_device.T @ on_device
        squares.append(total)
    stacked = torch.stack(squares)
    if not bool(torch.isfinite(stacked).all()):
        raise NoEigenvalues(_why_not_finite(matrices[0]))
    for matrix, square in zip(matrices, stacked.cpu().numpy(), strict=True):
        matrix.gram = square  # wanted again by fits that run here
    return list(torch.linalg.eigvalsh(stacked).cpu().numpy())


def mean_square(array: np.ndarray | Product) -> float:
    """Mean of the squared values, in float64, without a float64 copy of the array."""
    if isinstance(array, Product):
        return array.mean_square()
    flat = array.reshape(-1)
    parts = (flat[start : start + BLOCK].astype(np.float64) for start in range(0, flat.size, BLOCK))
    return float(sum(part @ part for part in parts) / flat.size)


def singular_values(matrix: Combination) -> np.ndarray:
    """Singular values, descending. A tall matrix is first reduced by QR, block by block, which keeps their accuracy."""
    if matrix.shape[0] < 2 * matrix.shape[1]:
        return np.linalg.svd(matrix.full(), compute_uv=False)
    triangle = None
    for block in matrix.blocks():
        stacked = block if triangle is None else np.concatenate([triangle, block])
        triangle = np.linalg.qr(stacked, mode="r")
    return np.linalg.svd(triangle, compute_uv=False)


def top_vectors(matrix: Combination, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The top k singular vectors: (N, k) of the longer side and (M, k) of the shorter one, orthonormal columns."""
    from scipy.linalg import eigh

    size = len(matrix.gram)
    values, short = eigh(matrix.gram, subset_by_index=(size - k, size - 1), check_finite=False)
    long = np.concatenate([block @ short for block in matrix.blocks()]) / np.sqrt(np.maximum(values, 1e-300))
    return long, short


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread per matrix, several matrices at a time: faster than the reverse, and the same bits for any number."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        # Looks for libraries as well, which may not happen while another thread loads one: they would wait for each other.
        lapack.two_stage()
        yield
