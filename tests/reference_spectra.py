"""Slow float64 definitions of the measures, written for reading, against which the fast paths are tested."""

from __future__ import annotations

import numpy as np


def eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """Squared singular values, ascending."""
    return np.sort(np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2)


def fit_tail(values: np.ndarray, two_sided: bool, min_tail: int) -> tuple[float, float, float]:
    """alpha, xmin and D by trying every xmin in turn."""
    best = (np.inf, np.nan, np.nan)
    for index in range(len(values) - 1):
        tail = values[index:]
        n = len(tail)
        if n < min_tail:
            break
        alpha = 1 + n / np.sum(np.log(tail / tail[0]))
        law = 1 - (tail / tail[0]) ** (1 - alpha)
        lower = np.abs(law - np.arange(n) / n)
        upper = np.abs(law - np.arange(1, n + 1) / n)
        distance = np.maximum(lower, upper).max() if two_sided else lower.max()
        if distance < best[0]:
            best = (distance, alpha, tail[0])
    distance, alpha, xmin = best
    return alpha, xmin, distance


def entropy(values: np.ndarray, rank: int) -> float:
    p = [value / sum(values) for value in values]
    return -sum(x * np.log(x) for x in p if x > 0) / np.log(rank)


def marchenko_pastur_density(x: float, sigma: float, N: int, M: int) -> float:
    """Of the eigenvalues of W^T W, W having N x M entries of standard deviation sigma."""
    low, high = sigma**2 * (N**0.5 - M**0.5) ** 2, sigma**2 * (N**0.5 + M**0.5) ** 2
    if not low < x < high:
        return 0.0
    return ((high - x) * (x - low)) ** 0.5 / (2 * np.pi * sigma**2 * M * x)
