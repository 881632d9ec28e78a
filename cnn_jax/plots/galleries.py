"""Galleries: the most confident mistakes, and people's pictures beside the model's images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.plots import figure

MAX_MISTAKES = 40  # Images in a gallery of mistakes.
MAX_PICTURES = 20  # Pictures in a gallery of predictions.
_MISTAKES_PER_ROW = 8
_PICTURES_PER_ROW = 4
_MAX_FILE_NAME = 12  # Characters.


@figure.styled
def draw_mistakes(
    report: ClassificationReport,
    image_u8: npt.NDArray[np.uint8],
    class_names: Sequence[str],
    model_label: str,
) -> Figure:
    """Draws the most confident mistakes, row by row, each with its true class and its prediction.

    Args:
      report: of N test examples.
      image_u8: uint8 [N, H, W, C], the images of all N examples.
      class_names: names of the classes.
      model_label: names the model, for the title.
    """
    mistakes = report.mistakes()
    shown = mistakes[:MAX_MISTAKES]
    rows = max(1, -(-len(shown) // _MISTAKES_PER_ROW))
    title = f"The {len(shown)} most confident of {len(mistakes):,} mistakes"
    fig = figure.new_figure(
        1.2 * _MISTAKES_PER_ROW,
        1.5 * rows + 0.6,
        f"{title if len(mistakes) else 'No mistakes'} on {len(report.label):,} test images\n"
        f"{model_label}: true class, prediction and its probability",
    )
    for axes in fig.subplots(rows, _MISTAKES_PER_ROW, squeeze=False).flat:
        axes.set_axis_off()
    names = [figure.truncate(name, 10) for name in class_names]
    for axes, example in zip(fig.axes, shown, strict=False):
        true, predicted = names[report.label[example]], names[report.prediction[example]]
        percent = f"{100 * report.confidence[example]:.0f} %"
        separator = " predicted as\n" if len(true) < 3 else "\n"  # Longer names have no room.
        figure.show_image(axes, image_u8[example], f"{true}{separator}{predicted} ({percent})")
    return fig


@figure.styled
def draw_predictions(
    originals: Sequence[Any],
    image_u8: npt.NDArray[np.uint8],
    names: Sequence[str],
    predictions: Sequence[str],
    title: str,
) -> Figure:
    """Draws pairs: a picture with its name, and the image the model takes with its prediction.

    Args:
      originals: N Pillow pictures, 1 to `MAX_PICTURES`.
      image_u8: uint8 [N, H, W, C], the images that the model takes in their place.
      names: file names of the pictures.
      predictions: text for each image.
      title: title of the figure.
    """
    columns = min(_PICTURES_PER_ROW, len(names))
    rows = -(-len(names) // columns)
    fig = figure.new_figure(3 * columns + 0.3, 1.7 * rows + 0.6, title)
    # A third, narrow column separates the pairs.
    grid = fig.subplots(
        rows, 3 * columns, squeeze=False, gridspec_kw={"width_ratios": (1, 1, 0.15) * columns}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    pictures = zip(originals, names, predictions, strict=True)
    for index, (original, name, prediction) in enumerate(pictures):
        left, right = fig.axes[3 * index : 3 * index + 2]
        left.imshow(original)
        # File names often differ only at the end, so the beginning is cut.
        left.set_title(name if len(name) <= _MAX_FILE_NAME else f"…{name[1 - _MAX_FILE_NAME :]}")
        figure.show_image(right, image_u8[index], prediction)
    return fig
