"""The figures of an evaluation: confusion matrix and reliability diagram."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.plots import figure

_MOST_NUMBERS = 30  # Classes; with more of them numbers would not be legible.


@figure.styled
def draw_confusion(
    confusion: npt.NDArray[np.int64], class_names: Sequence[str], about: str
) -> Figure:
    """Draws it: what is right in grey, the mistakes in red.

    Args:
      confusion: [K, K]; the rows are the true classes, the columns the predicted ones.
      class_names: of the K classes.
      about: says which network it is.
    """
    count = confusion.sum()
    right = f"{100 * np.trace(confusion) / count:.2f} % right"
    title = f"What is taken for what\n{about}, {count:,} test pictures, {right}"
    size = len(class_names)
    mistakes = np.where(np.eye(size, dtype=bool), 0, confusion)
    with_numbers = size <= _MOST_NUMBERS
    side = max(6.0, min(0.5 * size, 12.0) + 1.5)
    drawn = figure.new(side + 0.8, side + 0.3, title)
    axes = drawn.subplots()
    # On a scale of their own: beside what is right all mistakes would look alike.
    image = axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1, mistakes.max()))
    bar = drawn.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("mistakes (pictures)")
    bar.locator = MaxNLocator(integer=True)
    rgba = np.zeros((size, size, 4))
    rgba[np.eye(size, dtype=bool)] = (0.85, 0.85, 0.85, 1)
    axes.imshow(rgba)
    if with_numbers:
        for row, column in np.argwhere(confusion > 0):
            dark = row != column and confusion[row, column] > mistakes.max() / 2
            text = str(confusion[row, column])
            axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
        names = [figure.short(name) for name in class_names]
        axes.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(size), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return drawn


@figure.styled
def draw_calibration(scores: ClassificationReport, about: str) -> Figure:
    """Draws accuracy against confidence, and how many examples stand behind each bar.

    Args:
      scores: of N examples.
      about: says which network it is.
    """
    bins = scores.bins
    error = f"expected calibration error {100 * scores.calibration_error():.2f} %"
    count = f"{len(scores.label):,} test pictures"
    title = f"Is it right as often as it says?\n{about}, {count}, {error}"
    edges = np.linspace(0, 100, len(bins.count) + 1)
    width = edges[1]
    drawn = figure.new(6, 6.5, title)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(
        edges[:-1], 100 * bins.accuracy, width, align="edge", edgecolor="w", label="the network"
    )
    above.plot([0, 100], [0, 100], "k--", linewidth=1, label="as often as it says")
    above.set_ylabel("share that is right (%)")
    above.set_ylim(0, 100)
    above.legend(loc="upper left")
    below.bar(edges[:-1], bins.count, width, align="edge", color="0.6", edgecolor="w")
    below.set_yscale("symlog", linthresh=1)
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.set_ylim(bottom=0)
    below.set_ylabel("pictures")
    below.set_xlabel("probability that the network gives its prediction (%)")
    below.set_xlim(0, 100)
    return drawn
