"""Every statistic of the report, against the arithmetic in the comments."""

import math

import numpy as np
import pytest

from cnn_jax.evaluation.report import ClassificationReport, wilson_interval

# Six examples of three classes. Class 2 has two examples and is never predicted.
LABEL = np.array([0, 0, 1, 1, 2, 2], np.int32)
PROBABILITY = np.array(
    [
        [0.90, 0.05, 0.05],  # 0, right
        [0.30, 0.60, 0.10],  # 0 predicted as 1
        [0.20, 0.70, 0.10],  # 1, right
        [0.08, 0.90, 0.02],  # 1, right
        [0.95, 0.03, 0.02],  # 2 predicted as 0
        [0.20, 0.62, 0.18],  # 2 predicted as 1
    ]
)
REPORT = ClassificationReport(PROBABILITY, LABEL)


def test_rows_are_true_classes_and_columns_are_predictions() -> None:
    np.testing.assert_array_equal(REPORT.confusion, [[1, 1, 0], [0, 2, 0], [1, 1, 0]])


def test_precision_recall_and_f1() -> None:
    precision, recall, f1, count = REPORT.per_class
    # Precision: of 2 predictions of class 0, 1 is right, of 4 of class 1, 2 are. Recall: of 2
    # examples of class 0, 1 is predicted right, of 2 of class 1 both, of 2 of class 2 none.
    np.testing.assert_allclose(precision[:2], [1 / 2, 2 / 4])
    np.testing.assert_allclose(recall, [1 / 2, 2 / 2, 0])
    # 2pr / (p + r): 2 * .5 * .5 / 1 and 2 * .5 * 1 / 1.5. Class 2 has two misses and no hit.
    np.testing.assert_allclose(f1, [1 / 2, 2 / 3, 0])
    np.testing.assert_array_equal(count, [2, 2, 2])
    assert math.isnan(precision[2])  # Class 2 is never predicted: 0 / 0.


def test_class_without_examples_and_predictions_has_no_recall_and_no_f1() -> None:
    _, recall, f1, count = ClassificationReport(PROBABILITY[:4], LABEL[:4]).per_class
    assert math.isnan(recall[2])
    assert math.isnan(f1[2])
    assert count[2] == 0


def test_accuracy_interval_of_all_and_of_none_ends_exactly_at_1_and_at_0() -> None:
    # Unrounded, both are exact: at p = 0 the centre and half the width are z^2/2n, over 1 + z^2/n.
    for count in range(1, 200):
        assert wilson_interval(0, count)[0] == 0
        assert wilson_interval(count, count)[1] == 1


@pytest.mark.parametrize(("num_correct", "count"), [(9751, 10_000), (0, 5), (5, 5), (1, 2)])
def test_accuracy_interval_is_wilsons(num_correct: int, count: int) -> None:
    # (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z the normal's 97.5 % point.
    z, p = 1.959963984540054, num_correct / count
    centre, half_width = (
        p + z * z / (2 * count),
        z * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2),
    )
    expected = (
        (centre - half_width) / (1 + z * z / count),
        (centre + half_width) / (1 + z * z / count),
    )
    label = np.repeat([0, 1], [num_correct, count - num_correct])
    report = ClassificationReport(np.tile([0.9, 0.1], (count, 1)), label)
    assert report.accuracy_interval() == pytest.approx(expected, abs=1e-12)


def test_calibration_compares_confidence_and_accuracy_bin_by_bin() -> None:
    # Bins are 1/15 wide. Confidences .60, .62 | .70 | .90, .90 | .95 fall into bins 8 and 9 (.60 is
    # the upper edge of (8/15, 9/15], .62 is above it), 10, 13 and 14, counted from 0.
    bins = REPORT.bins
    np.testing.assert_array_equal(np.nonzero(bins.count)[0], [8, 9, 10, 13, 14])
    np.testing.assert_array_equal(bins.count[[8, 9, 10, 13, 14]], [1, 1, 1, 2, 1])
    # Gaps, weighted by count: |0 - .60| + |0 - .62| + |1 - .70| + 2 |1 - .90| + |0 - .95| = 2.67.
    assert REPORT.calibration_error() == pytest.approx(2.67 / 6)


def test_confidences_at_both_ends_have_a_bin() -> None:
    report = ClassificationReport(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0]))
    assert report.bins.count.sum() == 2
    assert report.bins.count[-1] == 1


def test_mistakes_are_sorted_by_confidence() -> None:
    assert REPORT.mistakes().tolist() == [4, 5, 1]  # .95, .62, .60
