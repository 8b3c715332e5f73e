"""Quality of synthetic images against real ones: distance of distributions, neighbourhoods, copies, labels.

Feature arrays are (n, d), real against synthetic. The distances depend on n, the Frechet distance most (its bias is
upward and of order 1 / n), so `distance_table` measures all of them at equal n per class, like the Vendi score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg
from scipy.special import ndtri

from diversity_spectra.diversity.vendi import CONFIDENCE, batches, class_sizes, interval, row_names, subsample

NEIGHBOURS = 5  # of Naeem et al. 2020
COPY_QUANTILE = 0.01  # an honest sample of the same distribution is flagged about this often
SAMPLE = 5000  # reference items, evenly spaced, that show how near such items are to each other
BLOCK = 2**23  # distances held at a time


def frechet_distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance of the Gaussians fitted to two samples of features (n, d), (m, d).

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017, arXiv 1706.08500, eq. 6, on Inception features
    known as FID). The trace of the root is the sum of singular values of A^(1/2) B^(1/2): exact for covariances of
    any rank, where a matrix root is not. Raises ValueError below two rows.
    """
    means, roots, traces = zip(*(_moments(sample) for sample in (real, synthetic)), strict=True)
    cross = linalg.svdvals(roots[0] @ roots[1].T, overwrite_a=True).sum()
    # Rounding can leave a tiny negative number for equal samples.
    return max(0.0, float(np.sum((means[0] - means[1]) ** 2) + traces[0] + traces[1] - 2 * cross))


def kernel_distance(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x'y / d + 1)^3, known as KID.

    Binkowski et al. 2018, arXiv 1801.01401, sec. 4. Unbiased, so it can fall below zero. Raises ValueError below two
    rows.
    """
    x, y = (np.asarray(sample, dtype=np.float64) for sample in (real, synthetic))
    n, m, d = len(x), len(y), x.shape[1]
    if min(n, m) < 2:
        raise ValueError("a kernel distance needs at least two items on each side")

    def kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
        return float(sum(((part @ b.T / d + 1) ** 3).sum() for part in batches(a)))

    def diagonal(a: np.ndarray) -> float:
        return float(((np.einsum("ij,ij->i", a, a) / d + 1) ** 3).sum())

    within = [(kernel_sum(a, a) - diagonal(a)) / (len(a) * (len(a) - 1)) for a in (x, y)]
    return within[0] + within[1] - 2 * kernel_sum(x, y) / (n * m)


def neighbourhoods(real: np.ndarray, synthetic: np.ndarray, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage of features (n, d), (m, d), from balls that reach the k-th neighbour.

    precision: share of synthetic items within the ball of a real one; recall: the other way round (Kynkaanniemi et al.
    2019, arXiv 1904.06991). density: number of real balls around a synthetic item over k; coverage: share of
    real balls with a synthetic item inside (Naeem et al. 2020, arXiv 2002.09797). k shrinks to n - 1.
    """
    cross = _distances(real, synthetic)
    real_radius, synthetic_radius = (_radii(sample, k) for sample in (real, synthetic))
    inside = cross <= real_radius[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((cross <= synthetic_radius[None, :]).any(axis=1).mean()),
        "density": float(inside.sum() / (min(k, len(real) - 1) * len(synthetic))),
        "coverage": float(inside.any(axis=1).mean()),
    }


@dataclass(frozen=True)
class Copies:
    """Nearest reference item of each of n candidates: its index, its distance, and whether that is a near-copy."""

    nearest: np.ndarray
    distance: np.ndarray
    flagged: np.ndarray
    threshold: float


def near_copies(candidates: np.ndarray, reference: np.ndarray, quantile: float = COPY_QUANTILE) -> Copies:
    """Candidates (n, d) that lie nearer to a reference item (m, d) than real items lie to each other.

    The threshold is the `quantile` of the Euclidean distances from reference items without a copy, at most SAMPLE of them, to
    the nearest other one. A copy has distance 0 and is always flagged.
    """
    nearest, distance = _nearest(candidates, reference)
    sample = np.linspace(0, len(reference) - 1, min(len(reference), SAMPLE)).astype(int)
    _, own = _nearest(reference[sample], reference, sample)
    apart = own[(own > 0) & np.isfinite(own)]
    threshold = float(np.quantile(apart, quantile)) if len(apart) else 0.0
    return Copies(nearest, distance, distance <= threshold, threshold)


def label_agreement(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) booleans: whether a classifier's first choice is the label that the image was made for."""
    return np.argmax(logits, axis=1) == labels


# Unbiased, a squared distance may be negative; the neighbourhood measures but the density are shares.
BOUNDS = {"kernel_distance": (-np.inf, np.inf), **dict.fromkeys(("precision", "recall", "coverage"), (0.0, 1.0))}


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share observed on n independent items; usable at shares of 0 and 1."""
    z = float(ndtri((1 + CONFIDENCE) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def distance_table(
    real: np.ndarray,
    real_labels: np.ndarray,
    synthetic: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    per_class: int,
    subsamples: int,
    seed: int,
    real_sources: np.ndarray | None = None,
    sources: np.ndarray | None = None,
) -> list[dict]:
    """Tidy rows measure, label, value, low, high, n of the distances and neighbourhoods in one feature space.

    frechet_distance and kernel_distance over all classes (`overall`), the four neighbourhood measures for each class
    and their `mean`. Mean and interval over subsamples of `per_class` images of each class on both sides, n each,
    drawn by the sources of each side as in `vendi.subsample`.
    """
    drawn: dict[tuple[str, str], list[float]] = {}
    for draw in range(subsamples):
        # Draws of their own for each side: sets in the same order would be drawn in pairs.
        left = real[
            subsample(real_labels, classes, per_class, seed, subsamples + draw, real_sources)
        ]  # classes, per_class, d
        right = synthetic[subsample(labels, classes, per_class, seed, draw, sources)]
        flat = left.reshape(-1, left.shape[2]), right.reshape(-1, right.shape[2])
        drawn.setdefault(("frechet_distance", "overall"), []).append(frechet_distance(*flat))
        drawn.setdefault(("kernel_distance", "overall"), []).append(kernel_distance(*flat))
        by_class = [neighbourhoods(*pair) for pair in zip(left, right, strict=True)]
        for measure in by_class[0]:
            values = [result[measure] for result in by_class]
            for label, value in zip([*row_names(classes), "mean"], [*values, np.mean(values)], strict=True):
                drawn.setdefault((measure, label), []).append(value)
    sides = (real_labels, real_sources), (labels, sources)
    available = min(class_sizes(side, classes, its_sources).min() for side, its_sources in sides)
    table = []
    for (measure, label), values in drawn.items():
        low, high = interval(np.array(values), per_class, int(available))
        low, high = np.clip([low, high], *BOUNDS.get(measure, (0.0, np.inf)))
        row = {"measure": measure, "label": label, "value": float(np.mean(values))}
        table.append(row | {"low": low, "high": high, "n": per_class})
    return table


def share_table(measure: str, flags: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[dict]:
    """Tidy rows of the share of flagged images in each class and `overall`; n counts the images behind it."""
    table = []
    for index, label in enumerate([*row_names(classes), "overall"]):
        chosen = flags if label == "overall" else flags[labels == index]
        if len(chosen):
            low, high = share_interval(float(chosen.mean()), len(chosen))
            row = {"measure": measure, "label": label, "value": float(chosen.mean())}
            table.append(row | {"low": low, "high": high, "n": len(chosen)})
    return table


def _moments(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean (d,), a root R with R'R = covariance (divisor n - 1), and the covariance's trace, of features (n, d)."""
    sample = np.asarray(sample, dtype=np.float64)
    if len(sample) < 2:
        raise ValueError("a Frechet distance needs at least two items on each side")
    mean = sample.mean(axis=0)
    root = (sample - mean) / math.sqrt(len(sample) - 1)
    trace = float(np.sum(root**2))
    if len(root) > root.shape[1]:
        values, vectors = linalg.eigh(root.T @ root, overwrite_a=True)
        root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    return mean, root, trace


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances (n, m) in float64; 0 where no more than rounding is left, so of equal items."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None, :]
    apart = squares - 2 * (a @ b.T)
    apart[apart < a.shape[1] * np.finfo(np.float64).eps * squares] = 0
    return np.sqrt(apart)


def _radii(sample: np.ndarray, k: int) -> np.ndarray:
    """Distance (n,) from each item to its k-th nearest other one."""
    distances = _distances(sample, sample)
    np.fill_diagonal(distances, np.inf)
    k = min(k, len(sample) - 1)
    return np.partition(distances, k - 1, axis=1)[:, k - 1]


def _nearest(
    candidates: np.ndarray, reference: np.ndarray, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Index and Euclidean distance (n,) of each candidate's nearest reference item.

    own: the position (n,) of each candidate among the reference items, where it is one itself and none of its neighbours.
    """
    index, distance = [], []
    reference, size = np.asarray(reference, dtype=np.float64), max(1, BLOCK // len(reference))
    for start in range(0, len(candidates), size):
        block = _distances(candidates[start : start + size], reference)
        if own is not None:
            block[np.arange(len(block)), own[start : start + size]] = np.inf
        index.append(block.argmin(axis=1))
        distance.append(block.min(axis=1))
    return np.concatenate(index), np.concatenate(distance)
