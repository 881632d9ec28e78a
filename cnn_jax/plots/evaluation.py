"""The figures of an evaluation: confusion matrix and reliability diagram."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnn_jax.evaluation.report import ClassificationReport, wilson_interval
from cnn_jax.plots import figure, names
from cnn_jax.wording import pluralize

_MAX_CLASSES_WITH_COUNTS = 30  # With more classes the counts would not be legible.
_MAX_LINEAR_COUNT = 20  # Beside larger counts small ones would not be visible on a linear axis.


@figure.styled
def draw_confusion(
    confusion: npt.NDArray[np.int64],
    class_names: Sequence[str],
    model_label: str,
    noun: str = "test image",
) -> Figure:
    """Draws a confusion matrix: correct predictions in grey, mistakes in red.

    Args:
      confusion: int64 [K, K], counts. Rows are the true classes, columns the predicted ones.
      class_names: names of the K classes.
      model_label: names the model, for the title.
      noun: what was counted, in the singular, for the title.
    """
    count = int(confusion.sum())
    accuracy = f"accuracy {100 * np.trace(confusion) / count:.2f} %"
    title = f"Confusion matrix\n{model_label}, {pluralize(count, noun)}, {accuracy}"
    size = len(class_names)
    is_diagonal = np.eye(size, dtype=bool)
    mistakes = np.where(is_diagonal, 0, confusion)
    side = max(6.0, min(0.5 * size, 12.0) + 1.5)
    fig = figure.new_figure(side + 0.8, side + 0.3, title)
    axes = fig.subplots()
    # The colour scale ends at the most frequent mistake. On one that also covers the correct
    # predictions all mistakes would look alike.
    image = axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1, mistakes.max()))
    bar = fig.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("mistakes (images)")
    bar.locator = MaxNLocator(integer=True)
    rgba = np.zeros((size, size, 4))
    rgba[is_diagonal] = (0.85, 0.85, 0.85, 1)
    axes.imshow(rgba)
    if size <= _MAX_CLASSES_WITH_COUNTS:
        for row, column in np.argwhere(confusion > 0):
            is_dark = row != column and confusion[row, column] > mistakes.max() / 2
            text = str(confusion[row, column])
            axes.text(column, row, text, ha="center", va="center", color="w" if is_dark else "k")
        labels = names.shorten(class_names)
        axes.set_xticks(range(size), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
        axes.set_yticks(range(size), labels)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return fig


@figure.styled
def draw_calibration(report: ClassificationReport, model_label: str) -> Figure:
    """Draws a reliability diagram: accuracy by confidence, and the number of examples in each bin.

    Each bin with examples is a point at their mean confidence, with the 95 % confidence interval of
    its accuracy, which is wide where it has few examples.

    Args:
      report: of N test examples.
      model_label: names the model, for the title.
    """
    bins = report.bins
    error = f"expected calibration error {100 * report.calibration_error():.2f} %"
    count = pluralize(len(report.label), "test image")
    title = f"Reliability diagram\n{model_label}, {count}, {error}"
    fig = figure.new_figure(6, 6.5, title)
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    used = np.flatnonzero(bins.count)
    confidence = 100 * bins.confidence[used]
    pairs = zip(bins.num_correct[used], bins.count[used], strict=True)
    low, high = np.transpose([wilson_interval(correct, count) for correct, count in pairs])
    above.plot([0, 100], [0, 100], "k--", linewidth=1, label="perfectly calibrated")
    above.vlines(confidence, 100 * low, 100 * high, label="95 % interval (Wilson)", alpha=0.5)
    above.plot(confidence, 100 * bins.accuracy[used], "o", label=f"model, {len(bins.count)} bins")
    above.set_ylabel("accuracy (%)")
    above.set_ylim(-3, 103)  # The points at 0 and 100 % are drawn whole.
    edges = np.linspace(0, 100, len(bins.count) + 1)
    below.bar(edges[:-1], bins.count, edges[1], align="edge", color="0.6", edgecolor="w")
    if bins.count.max() > _MAX_LINEAR_COUNT:
        below.set_yscale("symlog", linthresh=1)
    else:
        below.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.set_ylim(bottom=0)
    below.set_ylabel("test images")
    below.set_xlabel("confidence: probability of the prediction (%)")
    below.set_xlim(-3, 103)
    fig.legend(loc="outside lower center", ncols=3)
    return fig
