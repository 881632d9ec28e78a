"""Statistics of a classifier: accuracy, confusion matrix, calibration. No JAX, no files."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BINS = 15  # Calibration bins, as in Guo et al., 2017.
_NORMAL_97_5 = 1.959963984540054  # 97.5 % point of the standard normal distribution.

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class ClassificationReport:
    """Statistics of the predicted probabilities of N examples and K classes.

    Attributes:
      probability: float64 [N, K], 0..1; the class with the largest is the prediction.
      label: int [N], 0..K-1, the true classes.
    """

    probability: Floats
    label: npt.NDArray[np.integer[Any]]

    @functools.cached_property
    def prediction(self) -> Ints:
        """Class with the largest probability, the first among equal ones: int64 [N], 0..K-1."""
        return np.asarray(self.probability.argmax(axis=1))

    @functools.cached_property
    def confidence(self) -> Floats:
        """Probability of the prediction: float64 [N], 1/K..1."""
        return np.asarray(self.probability.max(axis=1))

    @functools.cached_property
    def confusion(self) -> Ints:
        """Confusion matrix: int64 [K, K], counts; rows are true classes, columns predictions."""
        num_classes = self.probability.shape[1]
        pairs = np.bincount(num_classes * self.label + self.prediction, minlength=num_classes**2)
        return pairs.reshape(num_classes, num_classes)

    @functools.cached_property
    def per_class(self) -> tuple[Floats, Floats, Floats, Ints]:
        """Precision, recall, F1 (their harmonic mean) and number of examples, each [K].

        The first three are in 0..1, or NaN where they are undefined: the precision of a class that
        is never predicted, the recall of a class without examples, the F1 of a class with neither.
        """
        # Not from scikit-learn, whose import takes a second.
        num_correct = self.confusion.diagonal()
        num_predicted, count = self.confusion.sum(axis=0), self.confusion.sum(axis=1)
        with np.errstate(invalid="ignore"):  # 0 / 0
            precision, recall = num_correct / num_predicted, num_correct / count
            return precision, recall, 2 * num_correct / (num_predicted + count), count

    def accuracy_interval(self) -> tuple[float, float]:
        """Computes the 95 % confidence interval of the accuracy over random test sets.

        Returns:
          The lower and the upper bound, 0..1.
        """
        num_correct = int((self.prediction == self.label).sum())
        return wilson_interval(num_correct, len(self.label))

    @functools.cached_property
    def bins(self) -> "CalibrationBins":
        """The examples grouped by confidence into `NUM_BINS` bins of equal width."""
        # Of M bins, bin m = 1..M holds the confidences in ((m - 1) / M, m / M].
        bin_index = np.ceil(self.confidence * NUM_BINS).astype(int).clip(1, NUM_BINS) - 1
        count = np.bincount(bin_index, minlength=NUM_BINS)
        num_correct = np.bincount(bin_index[self.prediction == self.label], minlength=NUM_BINS)
        confidence = np.bincount(bin_index, self.confidence, NUM_BINS)
        with np.errstate(invalid="ignore"):
            return CalibrationBins(count, num_correct, confidence / count, num_correct / count)

    def calibration_error(self) -> float:
        """Computes the expected calibration error, the mean of |accuracy - confidence|: 0..1.

        Bins are weighted by their number of examples. Source: Guo et al., 2017 (On Calibration of
        Modern Neural Networks), equation 3.
        """
        gap = np.abs(self.bins.accuracy - self.bins.confidence)
        return float(np.nansum(self.bins.count * gap) / self.bins.count.sum())

    def mistakes(self) -> Ints:
        """Returns the indices of the misclassified examples, the most confident first: int64."""
        (wrong,) = np.nonzero(self.prediction != self.label)
        return np.asarray(wrong[np.argsort(-self.confidence[wrong], kind="stable")])


@dataclasses.dataclass(frozen=True)
class CalibrationBins:
    """Examples grouped by confidence into M bins; the means of an empty bin are NaN.

    Attributes:
      count: int64 [M], number of examples.
      num_correct: int64 [M], number of correct predictions.
      confidence: float64 [M], mean confidence, 0..1.
      accuracy: float64 [M], fraction of correct predictions, 0..1.
    """

    count: Ints
    num_correct: Ints
    confidence: Floats
    accuracy: Floats


def wilson_interval(num_correct: int, count: int) -> tuple[float, float]:
    """Computes the 95 % confidence interval of an accuracy, Wilson's score interval.

    Source: Wilson, 1927; Brown, Cai and DasGupta, 2001, equation 4.

    Args:
      num_correct: number of correct predictions.
      count: number of predictions, at least 1.

    Returns:
      The lower and the upper bound, 0..1.
    """
    share, z = num_correct / count, _NORMAL_97_5
    centre = 2 * num_correct + z**2
    half_width = z * math.sqrt(4 * num_correct * (1 - share) + z**2)
    denominator = 2 * (count + z**2)
    # Rounding must not move the bounds off 0 and 1.
    low = (centre - half_width) / denominator if num_correct > 0 else 0.0
    high = (centre + half_width) / denominator if num_correct < count else 1.0
    return low, high
