"""Matrices known as a product of two thin factors: their spectrum costs what the factors cost."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np


@dataclass(frozen=True)
class Product:
    """left @ right, (N, r) and (r, M) float64, of which parts are multiplied out when they are asked for.

    Attributes:
        tail: the dimensions that the M columns stand for, as the input channels and kernel of a convolution.
    """

    left: np.ndarray
    right: np.ndarray
    tail: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    @property
    def T(self) -> Product:
        return Product(self.right.T, self.left.T)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.left[rows] @ self.right

    def dense(self) -> np.ndarray:
        """The array it stands for, with all its dimensions."""
        return (self.left @ self.right).reshape(self.left.shape[0], *(self.tail or self.right.shape[1:]))

    def part(self, index: int, parts: int, axis: int) -> Product:
        """One of equal parts along an axis."""
        size = self.shape[axis] // parts
        chosen = slice(index * size, (index + 1) * size)
        return Product(self.left[chosen], self.right) if axis == 0 else Product(self.left, self.right[:, chosen])

    def mean_square(self) -> float:
        return float(np.vdot(self.left.T @ self.left, self.right @ self.right.T) / prod(self.shape))

    def eigenvalues(self) -> np.ndarray:
        """All min(N, M) squared singular values, ascending: those of R_left R_right^T, and zeros."""
        triangles = [np.linalg.qr(factor, mode="r") for factor in (self.left, self.right.T)]
        values = np.linalg.svd(triangles[0] @ triangles[1].T, compute_uv=False)[::-1] ** 2
        size = min(self.shape)
        return np.concatenate([np.zeros(max(size - len(values), 0)), values[-size:]])
