"""The weighted Vendi score: the diversity of a changed training set times how near it stays to the plain one.

WVS = Vendi x rho. In the form of the study (Ba, Mancenido and Pan, arXiv 2410.14602) rho is the cosine of the two sets' feature
matrices, rows as they are, paired by index: `by_index`. For generated images the pairs are arbitrary, so that rho depends
on the order of files; and rows are not centred, so that it is near 1 for anything.

`by_class` depends on no order. It is the cosine of the two sets' class means, less the mean of the plain set: with x and x'
drawn independently from class c of the two sets, <M, M'> is the sum over c of E<x, x'>, and the squared lengths likewise
with two draws from one set. The mean over pairs of different pictures estimates each without bias, where a plain mean's own
noise would add tr(Cov) / n to the lengths. It is 1 where every class stays where it was, and 0 where the classes are mixed
up.
"""

from __future__ import annotations

import math

import numpy as np


def by_index(plain: np.ndarray, changed: np.ndarray) -> float:
    """<X, X'> / (|X| |X'|) of rows (n, d) that are paired by index."""
    first, second = (np.asarray(rows, dtype=np.float64) for rows in (plain, changed))
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def by_class(plain: np.ndarray, changed: np.ndarray, pictures: tuple[np.ndarray, np.ndarray] | None = None) -> float:
    """Cosine of the class means of rows (classes, n, d) of the plain set and (classes, m, d) of the changed one.

    pictures (classes, n) and (classes, m): number of the picture behind each row, negative where it is none of the plain
    set's; products of one picture with itself are left out. NaN where a squared length is estimated at 0 or below.
    """
    first, second = (np.asarray(rows, dtype=np.float64) for rows in (plain, changed))
    centre = first.mean(axis=(0, 1))
    first, second = first - centre, second - centre
    if pictures is None:
        pictures = tuple(np.arange(rows.shape[0] * rows.shape[1]).reshape(rows.shape[:2]) for rows in (first, second))
        pictures = pictures[0], -1 - pictures[1]
    own, others = pictures
    length, other = _product(first, first, own, own), _product(second, second, others, others)
    if not (length > 0 and other > 0):
        return math.nan
    return _product(first, second, own, others) / math.sqrt(length * other)


def _product(first: np.ndarray, second: np.ndarray, own: np.ndarray, others: np.ndarray) -> float:
    """Sum over classes of the mean product of a row of one with a row of the other, of different pictures."""
    total = 0.0
    for x, y, left, right in zip(first, second, own, others, strict=True):
        apart = left[:, None] != right[None]
        if not apart.any():
            return math.nan
        total += float(((x @ y.T) * apart).sum() / apart.sum())
    return total


def compared_rows(origin: np.ndarray, copy: np.ndarray, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Row of a changed set that stands opposite each picture of the plain set, of labels (N,); -1 where none does.

    origin, copy, picture: of every row of the changed set, as `inputs.origins_of` gives them. A picture stands opposite its
    own first variant; generated images, which are of no picture, take the other places, class by class. Where they were
    added to all real ones they are compared alone, as in the study.
    """
    rows = np.flatnonzero(copy == 0)
    generated = origin[rows] == "synthetic"
    if generated.any() and (~generated).sum() >= len(labels):
        rows = rows[generated]
    own, others = rows[picture[rows] >= 0], rows[picture[rows] < 0]
    opposite = np.full(len(labels), -1)
    opposite[picture[own]] = own
    by_class = np.argsort(labels, kind="stable")
    free = by_class[opposite[by_class] < 0][: len(others)]
    opposite[free] = others[: len(free)]
    return opposite
