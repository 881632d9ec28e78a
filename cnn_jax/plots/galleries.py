"""Galleries: the most confident mistakes, and people's pictures as the model saw them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.plots import figure

MOST_MISTAKES = 40  # Images.


_COLUMNS = 8


@figure.styled
def draw_mistakes(
    scores: ClassificationReport,
    image_u8: npt.NDArray[np.uint8],
    class_names: Sequence[str],
    about: str,
) -> Figure:
    """Draws the most confident mistakes, row by row, each with what it is and was taken for.

    Args:
      scores: of N examples.
      image_u8: uint8 [N, H, W, C], all of them.
      class_names: of the K classes.
      about: says which network it is.
    """
    wrong = scores.mistakes()
    shown = wrong[:MOST_MISTAKES]
    rows = max(1, -(-len(shown) // _COLUMNS))
    title = f"The {len(shown)} most confident of {len(wrong):,} mistakes"
    drawn = figure.new(
        1.2 * _COLUMNS,
        1.5 * rows + 0.6,
        f"{title if len(wrong) else 'No mistakes'} among {len(scores.label):,} test pictures\n"
        f"{about}: true class, prediction and its probability",
    )
    for axes in drawn.subplots(rows, _COLUMNS, squeeze=False).flat:
        axes.set_axis_off()
    names = [figure.short(name, 10) for name in class_names]
    for axes, example in zip(drawn.axes, shown, strict=False):
        is_class, taken_for = names[scores.label[example]], names[scores.prediction[example]]
        percent = f"{100 * scores.confidence[example]:.0f} %"
        joint = " taken for\n" if len(is_class) < 3 else "\n"
        figure.show_image(axes, image_u8[example], f"{is_class}{joint}{taken_for} ({percent})")
    return drawn


MOST_PICTURES = 20  # Pictures on a sheet.


_PAIRS = 4  # In a row.


_LONGEST = 12  # Characters of a file's name.


@figure.styled
def draw_predictions(
    originals: Sequence[Any],
    image_u8: npt.NDArray[np.uint8],
    names: Sequence[str],
    answers: Sequence[str],
    title: str,
) -> Figure:
    """Draws pairs: the original with its name, and what the network saw with its answer.

    Args:
      originals: Pillow's pictures, at most `MOST`.
      image_u8: uint8 [N, H, W, C], the same as the network saw them.
      names: of the originals.
      answers: of the network.
      title: above all.
    """
    columns = min(_PAIRS, len(names))
    rows = -(-len(names) // columns)
    drawn = figure.new(3 * columns + 0.3, 1.7 * rows + 0.6, title)
    # A third, narrow column keeps pairs apart.
    grid = drawn.subplots(
        rows, 3 * columns, squeeze=False, gridspec_kw={"width_ratios": (1, 1, 0.15) * columns}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for index, (original, name, answer) in enumerate(zip(originals, names, answers, strict=True)):
        left, right = drawn.axes[3 * index : 3 * index + 2]
        left.imshow(original)
        # Names of files often differ in their end alone.
        left.set_title(name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}")
        figure.show_image(right, image_u8[index], answer)
    return drawn
