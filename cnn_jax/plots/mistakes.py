"""A gallery of mistakes: what a network was most sure of, and wrong about."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cnn_jax.evaluation.report import Scores
from cnn_jax.plots import figure

MOST = 40  # Images.
_COLUMNS = 8


@figure.styled
def draw(
    scores: Scores, image_u8: npt.NDArray[np.uint8], class_names: Sequence[str], about: str
) -> Figure:
    """Draws the most confident mistakes, row by row, each with what it is and was taken for.

    Args:
      scores: of N examples.
      image_u8: uint8 [N, H, W, C], all of them.
      class_names: of the K classes.
      about: says which network it is.
    """
    wrong = scores.mistakes()
    shown = wrong[:MOST]
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
