"""How good a classifier is, where it errs, and how sure one can be of that: arithmetic alone."""

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

NUM_BINS = 15  # Of the calibration; as in the paper.

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class ClassificationReport:
    """What N examples, K classes and the probabilities that a network gives them come to.

    Attributes:
      probability: float64 [N, K], 0..1; the class with the largest is the prediction.
      label: int [N], the true classes.
    """

    probability: Floats
    label: npt.NDArray[np.integer[Any]]

    @functools.cached_property
    def prediction(self) -> Ints:
        """The class with the largest probability, the first of equal ones: [N]."""
        return np.asarray(self.probability.argmax(axis=1))

    @functools.cached_property
    def confidence(self) -> Floats:
        """The probability of the prediction: [N], 1/K..1."""
        return np.asarray(self.probability.max(axis=1))

    @functools.cached_property
    def confusion(self) -> Ints:
        """How often a class (the row) was taken for a class (the column): [K, K]."""
        classes = self.probability.shape[1]
        pairs = np.bincount(classes * self.label + self.prediction, minlength=classes**2)
        return pairs.reshape(classes, classes)

    @functools.cached_property
    def per_class(self) -> tuple[Floats, Floats, Floats, Ints]:
        """Precision, recall, their harmonic mean F1, and number of examples of each class: [K].

        0..1; not a number where nothing is to be divided: the precision of a class that is never
        predicted, the recall of one that has no example.
        """
        # Here, since it takes a second, and the end of a training needs only the confusion.
        from sklearn.metrics import precision_recall_fscore_support

        classes = np.arange(self.probability.shape[1])
        precision, recall, f1, count = precision_recall_fscore_support(
            self.label, self.prediction, labels=classes, zero_division=np.nan
        )
        return precision, recall, f1, count

    def accuracy_interval(self) -> tuple[float, float]:
        """Between which accuracies the true one lies, in 95 of 100 test sets.

        Wilson's score interval (Wilson, 1927; Brown, Cai and DasGupta, 2001, equation 4).
        """
        from scipy.stats import binomtest  # As above.

        right = int((self.prediction == self.label).sum())
        interval = binomtest(right, len(self.label)).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)

    @functools.cached_property
    def bins(self) -> "Bins":
        """The examples by their confidence, in `NUM_BINS` bins of equal width."""
        # Bin m holds confidences above (m - 1) / M, up to m / M.
        bin_of = np.ceil(self.confidence * NUM_BINS).astype(int).clip(1, NUM_BINS) - 1
        count = np.bincount(bin_of, minlength=NUM_BINS)
        right = np.bincount(bin_of, self.prediction == self.label, NUM_BINS)
        confidence = np.bincount(bin_of, self.confidence, NUM_BINS)
        with np.errstate(invalid="ignore"):
            return Bins(count, confidence / count, right / count)

    def calibration_error(self) -> float:
        """How far confidence and accuracy are apart, on average: 0..1.

        The expected calibration error of Guo et al., 2017 (On Calibration of Modern Neural
        Networks), equation 3.
        """
        gap = np.abs(self.bins.accuracy - self.bins.confidence)
        return float(np.nansum(self.bins.count * gap) / self.bins.count.sum())

    def mistakes(self) -> Ints:
        """Which examples are predicted wrongly, those with the largest confidence first."""
        (wrong,) = np.nonzero(self.prediction != self.label)
        return np.asarray(wrong[np.argsort(-self.confidence[wrong], kind="stable")])


@dataclasses.dataclass(frozen=True)
class Bins:
    """Examples of similar confidence together; means are not a number for an empty bin.

    Attributes:
      count: how many examples each has: [M].
      confidence: their mean: [M], 0..1.
      accuracy: fraction of them that is right: [M], 0..1.
    """

    count: Ints
    confidence: Floats
    accuracy: Floats
