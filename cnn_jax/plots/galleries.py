"""Galleries: the most confident mistakes, and people's pictures beside the model's images."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.plots import figure, names
from cnn_jax.wording import pluralize

MAX_MISTAKES = 40  # Images in a gallery of mistakes.
MAX_PICTURES = 20  # Pictures in a gallery of predictions.
_MISTAKES_PER_ROW = 8
_PICTURES_PER_ROW = 4
_MAX_LETTERS = 17  # Width of a text above a picture.


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
    labels = names.shorten(class_names)
    # Beside a short name there is room for the probability.
    is_short = max(map(len, labels)) < 3
    text = "{} predicted as\n{} ({:.0f} %)" if is_short else "{}\n{}\n{:.0f} %"
    mistakes = report.mistakes()
    shown = mistakes[:MAX_MISTAKES]
    rows = max(1, -(-len(shown) // _MISTAKES_PER_ROW))
    part = f"The {len(shown)} most confident of " if len(mistakes) > len(shown) else ""
    count = pluralize(len(mistakes), "mistake")
    fig = figure.new_figure(
        1.2 * _MISTAKES_PER_ROW,
        (1.5 if is_short else 1.65) * rows + 0.6,
        f"{part}{count} on {pluralize(len(report.label), 'test image')}\n"
        f"{model_label}: true class, prediction and its probability",
    )
    for axes in fig.subplots(rows, _MISTAKES_PER_ROW, squeeze=False).flat:
        axes.set_axis_off()
    for axes, example in zip(fig.axes, shown, strict=False):
        true, predicted = labels[report.label[example]], labels[report.prediction[example]]
        title = text.format(true, predicted, 100 * report.confidence[example])
        figure.show_image(axes, image_u8[example], title)
    return fig


@dataclasses.dataclass(frozen=True)
class PredictedPicture:
    """A picture and its prediction.

    Attributes:
      original: Pillow picture.
      boxes: (left, upper, right, lower) of each digit that was found on it, in its pixels.
      image_u8: uint8 [H, W, C], what the model takes in its place; several digits side by side.
      name: of the picture.
      label: the predicted class or number.
      probability: its probability, 0..1.
      is_unsure: whether the picture may show something else, or nothing.
    """

    original: Any
    boxes: Sequence[Sequence[float]]
    image_u8: npt.NDArray[np.uint8]
    name: str
    label: str
    probability: float
    is_unsure: bool = False


@figure.styled
def draw_predictions(pictures: Sequence[PredictedPicture], title: str) -> Figure:
    """Draws pairs: a picture with its name, and the image the model takes with its prediction.

    Args:
      pictures: 1 to `MAX_PICTURES` of them.
      title: title of the figure.
    """
    columns = min(_PICTURES_PER_ROW, len(pictures))
    rows = -(-len(pictures) // columns)
    fig = figure.new_figure(3 * columns + 0.3, 1.7 * rows + 0.6, title)
    # A third, narrow column separates the pairs.
    grid = fig.subplots(
        rows, 3 * columns, squeeze=False, gridspec_kw={"width_ratios": (1, 1, 0.15) * columns}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    above_left = names.shorten([picture.name for picture in pictures], _MAX_LETTERS)
    labels = names.shorten([p.label for p in pictures], _MAX_LETTERS - len(" (100 %)"))
    for index, picture in enumerate(pictures):
        left, right = fig.axes[3 * index : 3 * index + 2]
        left.imshow(picture.original)
        left.set_title(above_left[index])
        for x, y, end_x, end_y in picture.boxes:
            left.add_patch(Rectangle((x, y), end_x - x, end_y - y, fill=False, color="tab:orange"))
        note = "unsure" if picture.is_unsure else f"{100 * picture.probability:.0f} %"
        figure.show_image(right, picture.image_u8, f"{labels[index]} ({note})")
    return fig
