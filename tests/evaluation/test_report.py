"""Every number of the report, against the arithmetic in the comments."""

import math

import numpy as np
import pytest

from cnn_jax.evaluation.report import ClassificationReport

# Six examples of three classes. Class 2 has two examples and is never predicted.
LABEL = np.array([0, 0, 1, 1, 2, 2], np.int32)
PROBABILITY = np.array(
    [
        [0.90, 0.05, 0.05],  # 0, right
        [0.30, 0.60, 0.10],  # 0 taken for 1
        [0.20, 0.70, 0.10],  # 1, right
        [0.08, 0.90, 0.02],  # 1, right
        [0.95, 0.03, 0.02],  # 2 taken for 0
        [0.20, 0.62, 0.18],  # 2 taken for 1
    ]
)
SCORES = ClassificationReport(PROBABILITY, LABEL)


def test_rows_are_true_classes_and_columns_predicted_ones() -> None:
    np.testing.assert_array_equal(SCORES.confusion, [[1, 1, 0], [0, 2, 0], [1, 1, 0]])


def test_precision_recall_and_f1() -> None:
    precision, recall, f1, count = SCORES.per_class
    # Class 0: of 2 predicted 1 is right, of 2 there are 1 is found. Class 1: 2 of 4, and 2 of 2.
    np.testing.assert_allclose(precision[:2], [1 / 2, 2 / 4])
    np.testing.assert_allclose(recall, [1 / 2, 2 / 2, 0])
    # 2pr / (p + r): 2 * .5 * .5 / 1 and 2 * .5 * 1 / 1.5.
    np.testing.assert_allclose(f1[:2], [1 / 2, 2 / 3])
    np.testing.assert_array_equal(count, [2, 2, 2])
    assert math.isnan(precision[2])  # It is never predicted: nothing is to be divided.


def test_a_class_without_examples_has_no_recall() -> None:
    recall = ClassificationReport(PROBABILITY[:4], LABEL[:4]).per_class[1]
    assert math.isnan(recall[2])


@pytest.mark.parametrize(("right", "count"), [(9751, 10_000), (0, 5), (5, 5), (1, 2)])
def test_the_interval_is_wilsons(right: int, count: int) -> None:
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z the normal's 97.5 % point.
    z, p = 1.959963984540054, right / count
    centre, half = (
        p + z * z / (2 * count),
        z * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2),
    )
    expected = ((centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count))
    label = np.repeat([0, 1], [right, count - right])
    scores = ClassificationReport(np.tile([0.9, 0.1], (count, 1)), label)
    assert scores.accuracy_interval() == pytest.approx(expected, abs=1e-12)


def test_calibration_compares_confidence_and_accuracy_bin_by_bin() -> None:
    # Bins are 1/15 wide. Confidences .60, .62 | .70 | .90, .90 | .95 fall into bins 8 and 9 (.60 is
    # the upper edge of (8/15, 9/15], .62 is above it), 10, 13 and 14, counted from 0.
    bins = SCORES.bins
    np.testing.assert_array_equal(np.nonzero(bins.count)[0], [8, 9, 10, 13, 14])
    np.testing.assert_array_equal(bins.count[[8, 9, 10, 13, 14]], [1, 1, 1, 2, 1])
    # Gaps, weighed by count: |0 - .60| + |0 - .62| + |1 - .70| + 2 |1 - .90| + |0 - .95| = 2.67.
    assert SCORES.calibration_error() == pytest.approx(2.67 / 6)


def test_probabilities_of_one_and_of_chance_have_a_bin() -> None:
    scores = ClassificationReport(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0]))
    assert scores.bins.count.sum() == 2
    assert scores.bins.count[-1] == 1


def test_mistakes_come_with_the_most_confident_first() -> None:
    assert SCORES.mistakes().tolist() == [4, 5, 1]  # .95, .62, .60
