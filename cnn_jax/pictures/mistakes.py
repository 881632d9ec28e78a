"""A gallery of mistakes: what a network was most sure of, and wrong about."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cnn_jax.pictures import figure

MOST = 40  # Images.
_COLUMNS = 8


def draw(image_u8: npt.NDArray[np.uint8], titles: Sequence[str], title: str) -> Figure:
    """Draws images with a title each, row by row.

    Args:
      image_u8: uint8 [N, H, W, C], at most `MOST` of them.
      titles: of each.
      title: above all.
    """
    rows = max(1, -(-len(titles) // _COLUMNS))
    drawn = figure.new(1.2 * _COLUMNS, 1.5 * rows + 0.6, title)
    for axes in drawn.subplots(rows, _COLUMNS, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, words in zip(drawn.axes, image_u8, titles, strict=False):
        figure.show_image(axes, image, words)
    return drawn
