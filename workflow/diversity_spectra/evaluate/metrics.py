"""Accuracy and calibration from logits, in float64 and NumPy alone, so that kept predictions can be scored anywhere.

Start at `classification_metrics`; the parts are public because each is tested against its definition.
"""

from __future__ import annotations

import numpy as np

BINS = 15  # equal-width bins of Guo et al. 2017


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis, (N, C) float64; logits of any finite size neither overflow nor vanish."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of examples whose first largest logit is the label's."""
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes that have examples of the share of theirs that is right: large classes do not outweigh small ones."""
    correct = (np.argmax(logits, axis=1) == labels).astype(np.float64)
    examples = np.bincount(labels)
    return float(np.mean(np.bincount(labels, weights=correct)[examples > 0] / examples[examples > 0]))


def negative_log_likelihood(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -ln p(label), in nats, from log-probabilities (N, C)."""
    return float(-np.mean(log_p[np.arange(len(labels)), labels]))


def brier(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Mean over examples of the squared distance between the probabilities and the one-hot label, in [0, 2].

    The sum runs over all classes (Brier 1950); some libraries divide it by the number of classes.
    """
    p = np.exp(log_p)
    true = p[np.arange(len(labels)), labels]
    return float(np.mean((p**2).sum(axis=1) - 2 * true + 1))


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3) over equal-width bins of [0, 1].

    confidence (N,) is the largest probability of each example, correct (N,) is 1 where it is right. Bins are closed on
    the left, and the last one on both sides: a saturated network has many confidences of exactly 1.0, which belong
    with the confident ones and not in a bin of their own.
    """
    edges = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    return _binned_gap(index, confidence, correct)


def adaptive_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Calibration error over bins of equal numbers of examples (Nguyen & O'Connor 2015, arXiv 1508.05154).

    Where a boundary falls among equal confidences (many at exactly 1.0), each of them counts with their common share
    of right answers: otherwise the result would depend on the order of the examples.
    """
    _, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=correct) / size)[group]
    order = np.argsort(confidence)
    index = np.arange(len(order)) * bins // len(order)
    return _binned_gap(index, confidence[order], shared[order])


def classification_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """All metrics of logits (N, C) against labels (N,) integers in [0, C).

    Keys: accuracy, balanced_accuracy, nll (nats), brier (0 to 2), ece and adaptive_ece (0 to 1, 15 bins). Raises ValueError
    for shapes that do not match, labels out of range, and logits that are NaN or infinite: a diverged network has none.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.size == 0:
        raise ValueError(f"logits (N, C) and labels (N,) do not match: {logits.shape} and {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be integers from 0 to {logits.shape[1] - 1}")
    if not np.isfinite(logits).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(logits).all(axis=1))} rows of logits are not finite")
    log_p = log_probabilities(logits)
    confidence = np.exp(log_p.max(axis=1))
    correct = (np.argmax(logits, axis=1) == labels).astype(np.float64)
    return {
        "accuracy": accuracy(logits, labels),
        "balanced_accuracy": balanced_accuracy(logits, labels),
        "nll": negative_log_likelihood(log_p, labels),
        "brier": brier(log_p, labels),
        "ece": calibration_error(confidence, correct),
        "adaptive_ece": adaptive_calibration_error(confidence, correct),
    }


def _binned_gap(index: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> float:
    """Sum over bins of |share right - mean confidence| weighted by the bin's share of the N examples."""
    # (n_b / N) * |mean(correct) - mean(confidence)| is |sum(correct - confidence)| / N: an empty bin adds nothing.
    return float(np.abs(np.bincount(index, weights=correct - confidence)).sum() / len(index))
