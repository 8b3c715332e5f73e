"""Accuracy and calibration against their definitions and torchmetrics 1.9."""

import numpy as np
import pytest

from diversity_spectra.evaluate import metrics

TOLERANCE = 1e-12  # float64 sums of up to a thousand terms
FLOAT32 = 1e-6  # the same in float32


def cases(count: int):
    """Random logits (N, C) and labels of every sharpness, from one example to two hundred."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        n, classes = rng.integers(1, 200), rng.integers(2, 20)
        logits = rng.standard_normal((n, classes)) * 10 ** rng.uniform(-1, 1.2)
        yield logits, rng.integers(0, classes, n)


def reference_ece(confidence, correct, bins=15):
    """The definition, bin by bin: [a, b) and [a, 1] for the last."""
    total = 0.0
    for b in range(bins):
        last = b == bins - 1
        inside = (confidence >= b / bins) & ((confidence < (b + 1) / bins) | last)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def test_ece_equals_torchmetrics_and_the_definition_on_1000_random_cases():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    checked = 0
    for logits, labels in cases(2000):
        log_p = metrics.log_probabilities(logits)
        confidence = np.exp(log_p.max(axis=1))
        correct = (logits.argmax(axis=1) == labels).astype(float)
        ours = metrics.classification_metrics(logits, labels)["ece"]
        assert ours == pytest.approx(reference_ece(confidence, correct), abs=TOLERANCE)
        # torchmetrics 1.9 works in float32, and gives confidences of exactly 1.0 a sixteenth bin (next test).
        if confidence.astype(np.float32).max() < 1:
            p, y = torch.from_numpy(np.exp(log_p)), torch.from_numpy(labels)
            theirs = multiclass_calibration_error(p, y, logits.shape[1], n_bins=15, validate_args=False)
            assert ours == pytest.approx(theirs.item(), abs=FLOAT32)
            checked += 1
        if checked == 1000:
            return
    raise AssertionError(f"only {checked} cases could be compared")


def test_confidence_of_exactly_one_is_in_the_last_bin():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    # Two saturated examples, one of them wrong, and two at 0.95 that are right.
    confidence, correct = np.array([1.0, 1.0, 0.95, 0.95]), np.array([1.0, 0.0, 1.0, 1.0])
    assert metrics.calibration_error(confidence, correct) == pytest.approx(abs(0.75 - 0.975), abs=TOLERANCE)
    p = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.95, 0.05], [0.95, 0.05]], dtype=torch.float64)
    theirs = multiclass_calibration_error(p, torch.tensor([0, 1, 0, 0]), 2, n_bins=15).item()
    assert theirs == pytest.approx(0.5 * 0.5 + 0.5 * 0.05), "torchmetrics no longer splits the last bin"


def test_saturated_logits_score_as_probabilities_of_one():
    result = metrics.classification_metrics(np.array([[1e4, -1e4], [1e4, -1e4]]), np.array([0, 1]))
    assert result["ece"] == pytest.approx(0.5, abs=TOLERANCE)
    assert result["adaptive_ece"] == pytest.approx(0.5, abs=TOLERANCE)
    assert result["brier"] == pytest.approx(1.0, abs=TOLERANCE)
    assert result["nll"] == pytest.approx(1e4), "a wrong certainty costs its logit gap, not infinity"


def test_values_worked_by_hand():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]))
    result = metrics.classification_metrics(logits, np.array([0, 2]))
    assert result["accuracy"] == 0.5
    assert result["nll"] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2, abs=TOLERANCE)
    assert result["brier"] == pytest.approx((0.09 + 0.04 + 0.01 + 0.01 + 0.36 + 0.49) / 2, abs=TOLERANCE)
    assert result["ece"] == pytest.approx((0.3 + 0.6) / 2, abs=TOLERANCE)


def test_a_shift_of_all_logits_and_the_order_of_examples_change_nothing():
    rng = np.random.default_rng(1)
    for logits, labels in cases(50):
        # Whole-number logits tie many confidences, which is where an order could enter.
        logits = np.round(logits)
        order = rng.permutation(len(labels))
        expected = metrics.classification_metrics(logits, labels)
        assert metrics.classification_metrics(logits[order] + 1000.0, labels[order]) == pytest.approx(expected)


def test_float32_logits_are_scored_in_float64():
    logits = np.array([[20.0, 0.0]], dtype=np.float32)
    # In float32 the probability is exactly 1 and the loss 0.
    assert metrics.classification_metrics(logits, np.array([0]))["nll"] == pytest.approx(
        np.log1p(np.exp(-20.0)), rel=1e-6
    )


def test_adaptive_bins_hold_equal_numbers():
    confidence = np.linspace(0.5, 0.9, 150)
    correct = (np.arange(150) % 2).astype(float)
    blocks = zip(confidence.reshape(15, 10), correct.reshape(15, 10), strict=True)
    expected = np.mean([abs(right.mean() - sure.mean()) for sure, right in blocks])
    assert metrics.adaptive_calibration_error(confidence, correct) == pytest.approx(expected, abs=TOLERANCE)
    few = metrics.adaptive_calibration_error(np.array([0.6, 0.9]), np.array([1.0, 0.0]))
    assert few == pytest.approx((0.4 + 0.9) / 2), "fewer examples than bins: each is its own"


def test_a_calibrated_forecast_has_a_small_error():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((100_000, 5))
    p = np.exp(metrics.log_probabilities(logits))
    labels = (rng.random((100_000, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    result = metrics.classification_metrics(logits, labels)
    assert result["ece"] < 0.01
    assert result["adaptive_ece"] < 0.01


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), "do not match"),
        (np.zeros((0, 2)), np.zeros(0, int), "do not match"),
        (np.zeros((1, 2)), np.array([2]), "from 0 to 1"),
        (np.zeros((1, 2)), np.array([-1]), "from 0 to 1"),
        (np.zeros((1, 2)), np.array([0.0]), "integers"),
        (np.array([[np.nan, 0.0], [1.0, 0.0]]), np.array([0, 0]), "1 rows of logits are not finite"),
    ],
)
def test_input_without_an_answer_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metrics.classification_metrics(logits, labels)


def test_balanced_accuracy_weighs_classes_alike_and_is_that_of_sklearn() -> None:
    from sklearn.metrics import balanced_accuracy_score

    labels = np.array([0] * 60 + [2])  # class 1 has no example
    logits = np.zeros((61, 3))
    logits[:, 0] = 1
    assert metrics.balanced_accuracy(logits, labels) == 0.5 and metrics.accuracy(logits, labels) > 0.98
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 4, 50), random.normal(size=(50, 4))
    assert metrics.balanced_accuracy(logits, labels) == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
