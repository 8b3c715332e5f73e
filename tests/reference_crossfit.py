"""Slow float64 definition of the interval of a cosine, written for reading, against which the fast one is tested."""

from __future__ import annotations

import numpy as np


def cosine_interval(shift, a: int, b: int, level: float, steps: int, least_share: float) -> tuple[float, float]:
    """Of shifts a and b: every cosine that the data do not reject, world by world and cosine by cosine.

    Vectors of the plane of the two observed shifts are pairs of weights of these shifts.
    """
    if shift.unbiased[a, a] <= 0 or shift.unbiased[b, b] <= 0:
        return -1.0, 1.0
    both = np.ix_([a, b], [a, b])
    plain = shift.plain[both]
    length_a, length_b = np.sqrt(shift.unbiased[a, a]), np.sqrt(shift.unbiased[b, b])
    unit_a, unit_b = np.array([1 / np.sqrt(plain[0, 0]), 0.0]), np.array([0.0, 1 / np.sqrt(plain[1, 1])])
    first, second = unit_a + unit_b, unit_a - unit_b
    first, second = first / np.sqrt(first @ plain @ first), second / np.sqrt(second @ plain @ second)
    unbiased_variance = np.diag(shift.spread - shift.excess)[[a, b]] / np.array([length_a, length_b]) ** 2
    grid = np.linspace(-1, 1, steps)
    below = []
    for rho in grid:
        angle = np.arccos(rho) / 2
        true_a = np.cos(angle) * first + np.sin(angle) * second
        true_b = np.cos(angle) * first - np.sin(angle) * second
        observed = shift.unbiased[a, b] - rho * length_a * length_b
        noise_a, noise_b = (
            np.sqrt(min(max(variance / (true @ shift.spread[both] @ true), least_share), 1.0))
            for variance, true in zip(unbiased_variance, (true_a, true_b), strict=True)
        )
        count = 0
        for metric, cross, square in zip(shift.metric, shift.cross, shift.square, strict=True):
            metric, cross, square = metric[both], cross[both], square[both]
            inner = length_a * length_b * true_a @ metric @ true_b + square[0, 1]
            inner += length_a * noise_a * true_a @ cross[:, 1] + length_b * noise_b * true_b @ cross[:, 0]
            squared_a = length_a**2 * true_a @ metric @ true_a + square[0, 0]
            squared_a += 2 * length_a * noise_a * true_a @ cross[:, 0]
            squared_b = length_b**2 * true_b @ metric @ true_b + square[1, 1]
            squared_b += 2 * length_b * noise_b * true_b @ cross[:, 1]
            count += inner - rho * np.sqrt(max(squared_a, 0.0) * max(squared_b, 0.0)) <= observed
        below.append(count / len(shift.metric))
    return crossing(grid, below, 1 - level / 2), crossing(grid, below, level / 2)


def crossing(grid: np.ndarray, below: list[float], level: float) -> float:
    """The first cosine at which the share falls to the level, on straight lines between the grid's; rises are ignored."""
    lowest = below[0]
    if lowest <= level:
        return float(grid[0])
    for index in range(1, len(grid)):
        share = min(lowest, below[index])
        if share <= level:
            return float(grid[index - 1] + (lowest - level) / (lowest - share) * (grid[index] - grid[index - 1]))
        lowest = share
    return float(grid[-1])
