"""Vendi score of a set of images: how many really different ones it holds.

The score of order q is exp of the Renyi entropy of the eigenvalues of K / n, where K holds the similarities of n items
and k(x, x) = 1 (Friedman & Dieng 2023, arXiv 2210.02410, def. 3.1; orders: Pasarkar & Dieng 2024, arXiv 2310.12952).
It is 1 where all items are equal and n where all are orthogonal. K is the cosine of feature vectors, so its non-zero
eigenvalues are those of X'X / n as well (the dual form): the smaller of the n x n and the d x d matrix is decomposed.

A vector of zeros (a blank image) has no direction. Here all such vectors share one direction of their own, orthogonal
to every other: similarity 1 to each other, 0 to the rest. The diagonal of K stays 1 and copies still add nothing.

The score grows with n, so sets are compared at equal n per class only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy import linalg
from scipy.special import stdtrit

from diversity_spectra import imageset
from diversity_spectra.seeds import derive_seed

ORDERS = (1.0, 2.0, math.inf)
CONFIDENCE = 0.95
PIECE = 256  # images read at a time
BATCH = 4096  # rows held as float64 at a time: 100 MB at d = 3072


def score(eigenvalues: np.ndarray, order: float = 1.0) -> float:
    """exp of the Renyi entropy of `order` > 0 (1 is Shannon's, math.inf is -ln of the largest) of eigenvalues of K / n.

    Eigenvalues below the rounding of the largest, negative ones among them, become zero and the rest is scaled to
    sum 1 again: low orders would count them.
    """
    if not order > 0:
        raise ValueError(f"the order of a Vendi score is a number above 0 or inf, not {order}")
    p = eigenvalues[eigenvalues > len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues.max()]
    p = p / p.sum()
    if math.isinf(order):
        return float(1 / p.max())
    if order == 1:
        return float(np.exp(-(p * np.log(p)).sum()))
    return float((p**order).sum() ** (1 / (1 - order)))


def eigenvalues(rows: np.ndarray, centre: np.ndarray | None = None) -> np.ndarray:
    """Eigenvalues of K / n for the cosine kernel of rows (n, d), any real type, possibly a memory map.

    Takes the primal form (one n x n matrix) where n <= d, else the dual form in batches, so n may exceed memory.
    `centre` (d,) is subtracted from every row first. At most min(n, d) + 1 values, zeros of the rest left out.
    """
    if len(rows) > rows.shape[1]:
        return stream_eigenvalues(batches(rows), centre)
    units, blank = unit_rows(rows, centre)
    return np.append(_symmetric_eigenvalues(units @ units.T / len(rows)), blank / len(rows))


def stream_eigenvalues(parts: Iterable[np.ndarray], centre: np.ndarray | None = None) -> np.ndarray:
    """Eigenvalues of K / n in the dual form, from batches (b, d) seen once: memory is d x d plus one batch.

    Raises ValueError where there is no row.
    """
    total = blank = 0
    gram: np.ndarray | None = None
    for part in parts:
        units, zeros = unit_rows(part, centre)
        product = units.T @ units
        gram = product if gram is None else np.add(gram, product, out=gram)
        total, blank = total + len(part), blank + zeros
    if gram is None or total == 0:
        raise ValueError("a Vendi score needs at least one item")
    return np.append(_symmetric_eigenvalues(gram / total), blank / total)


def batches(rows: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    """Slices of at most `size` rows."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def subsample(
    labels: np.ndarray,
    classes: Sequence[str],
    per_class: int,
    seed: int,
    draw: int,
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """Indices (C, per_class) of images drawn without replacement from each class.

    `sources` (N,) numbers the picture that each image is a variant of, by first appearance; left out, every image is
    its own. Pictures are drawn, and one variant of each: drawn from all variants, a set would lose diversity to
    repeats of one picture. The draw depends on the seed, the class's name and its images alone: not on the order or
    number of classes. Raises ValueError for a class with fewer than `per_class` pictures.
    """
    sources = np.arange(len(labels)) if sources is None else sources
    chosen = []
    for index, name in enumerate(classes):
        members = np.flatnonzero(labels == index)
        _, first, source = np.unique(sources[members], return_index=True, return_inverse=True)
        if len(first) < per_class:
            raise ValueError(f"class {name} has {len(first)} distinct images, fewer than {per_class}")
        rng = np.random.default_rng(derive_seed(seed, name, draw))
        drawn = source[rng.permutation(first)[:per_class]]
        variants, by_source = np.bincount(source), np.argsort(source, kind="stable")
        start = np.cumsum(variants) - variants
        chosen.append(np.sort(members[by_source[start[drawn] + rng.integers(variants[drawn])]]))
    return np.stack(chosen)


def class_sizes(labels: np.ndarray, classes: Sequence[str], sources: np.ndarray | None = None) -> np.ndarray:
    """Number (C,) of distinct pictures of each class; `sources` as in `subsample`."""
    if sources is not None:
        labels = labels[np.unique(sources, return_index=True)[1]]
    return np.bincount(labels, minlength=len(classes))[: len(classes)]


def interval(values: np.ndarray, drawn: int, available: int) -> tuple[float, float]:
    """95 % interval of the expected score at n = `drawn`, from scores (K,) of K subsamples out of `available` items.

    Subsamples drawn without replacement overlap, so their spread s alone understates the error, and at drawn =
    available they are all equal. Two errors are added: only K were drawn, s^2 / K, and the set is itself a sample,
    s^2 drawn / (available - drawn) (the delete-d jackknife, Shao & Wu 1989, Ann. Stat. 17, 1176); the quantile is
    Student's with K - 1 degrees of freedom. NaN where K < 2 or nothing was left out. The items must be a sample of
    independent ones, so variants of one picture count once in `available`; of one generator, it is given that one.
    """
    if len(values) < 2 or drawn >= available:
        return math.nan, math.nan
    spread = np.std(values, ddof=1) * math.sqrt(1 / len(values) + drawn / (available - drawn))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * spread)
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def row_names(classes: Sequence[str]) -> list[str]:
    """Names of classes in tables, none of them that of a row over all classes (`mean`, `overall`)."""
    return [f"class {name}" if name in ("mean", "overall") else name for name in classes]


def score_table(
    kernels: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]],
    labels: np.ndarray,
    classes: Sequence[str],
    per_class: int,
    subsamples: int,
    seed: int,
    orders: Sequence[float] = ORDERS,
    sources: np.ndarray | None = None,
) -> list[dict]:
    """Tidy rows kernel, order, label, score, low, high, n: each class, their `mean`, and `overall` (all pooled).

    `kernels` maps a name to a function that takes the chosen indices (C * per_class,) and returns their feature rows
    and the centre (or None). All kernels see the same subsamples, drawn by `sources` as in `subsample`. `score` is the
    mean over subsamples; n is the number of images per class in every row, `overall` included.
    """
    sizes = class_sizes(labels, classes, sources)
    names = [*row_names(classes), "mean", "overall"]
    available = [*sizes, sizes.min(), sizes.min()]
    scores = np.empty((len(kernels), len(orders), len(names), subsamples))
    for draw in range(subsamples):
        chosen = subsample(labels, classes, per_class, seed, draw, sources)
        for k, features in enumerate(kernels.values()):
            rows, centre = features(chosen.ravel())
            parts = [rows[i * per_class : (i + 1) * per_class] for i in range(len(classes))]
            spectra = [eigenvalues(part, centre) for part in (*parts, rows)]
            for o, order in enumerate(orders):
                values = [score(spectrum, order) for spectrum in spectra]
                scores[k, o, :, draw] = [*values[:-1], np.mean(values[:-1]), values[-1]]
    table = []
    for k, kernel in enumerate(kernels):
        for o, order in enumerate(orders):
            for i, name in enumerate(names):
                bounds = 1, per_class * (len(classes) if name == "overall" else 1)  # of any such score
                low, high = np.clip(interval(scores[k, o, i], per_class, int(available[i])), *bounds)
                value = float(scores[k, o, i].mean())
                row = {"kernel": kernel, "order": f"{order:g}", "label": name, "score": value}
                table.append(row | {"low": low, "high": high, "n": per_class})
    return table


def pixel_rows(images: np.ndarray, indices: np.ndarray | None = None, side: int = 32, workers: int = 0) -> np.ndarray:
    """Images (N, H, W, C), all or those of indices (n,), as rows (n, d): uint8, or float32 where a side exceeds `side`.

    The paper's pixel kernel is defined at 32 px; larger images are averaged over square blocks, so that d stays small.
    They are read in pieces: images may be a memory map larger than the memory. So many `workers` make those that are made
    when they are read.
    """
    indices = np.arange(len(images)) if indices is None else indices
    n, (height, width, channels) = len(indices), images.shape[1:]
    factor = math.ceil(max(height, width) / side)
    pieces = imageset.read(images, np.split(indices, range(PIECE, n, PIECE)), workers)
    if factor <= 1:
        return np.concatenate([piece.reshape(len(piece), -1) for piece in pieces])
    rows, columns = np.arange(0, height, factor), np.arange(0, width, factor)
    # Blocks at the far edges may be smaller: each is divided by its own number of pixels.
    area = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))[None, :, :, None]
    reduced = np.empty((n, len(rows), len(columns), channels), dtype=np.float32)
    for start, piece in zip(range(0, n, PIECE), pieces, strict=True):
        sums = np.add.reduceat(piece, rows, axis=1, dtype=np.float32)
        reduced[start : start + PIECE] = np.add.reduceat(sums, columns, axis=2) / area
    return reduced.reshape(n, -1)


def unit_rows(rows: np.ndarray, centre: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Rows (n, d) scaled to length 1 in float64, rows without a length left at zero; and how many those are."""
    units = np.array(rows, dtype=np.float64)
    smallest = 0.0
    if centre is not None:
        units -= centre
        # A row equal to the centre leaves the rounding of the mean, which must not be blown up to length 1.
        smallest = 1e-12 * np.linalg.norm(centre)
    norms = np.sqrt(np.einsum("ij,ij->i", units, units))
    blank = norms <= smallest
    units /= np.where(blank, 1, norms)[:, None]
    return units, int(np.count_nonzero(blank))


def _symmetric_eigenvalues(matrix: np.ndarray) -> np.ndarray:
    return linalg.eigvalsh(matrix, overwrite_a=True, check_finite=True)
