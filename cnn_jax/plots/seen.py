"""What a network saw of people's pictures, beside the originals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cnn_jax.plots import figure

MOST = 20  # Pictures on a sheet.
_PAIRS = 4  # In a row.
_LONGEST = 12  # Characters of a file's name.


@figure.styled
def draw(
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
