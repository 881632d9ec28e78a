"""Images beside what the augmentation of a training makes of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cnn_jax.plots import figure, names, tiles

MAX_IMAGES = 10
_MAX_LETTERS = 17  # Width of the label of a row.


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    changed_u8: npt.NDArray[np.uint8],
    titles: Sequence[str],
    title: str,
) -> Figure:
    """Draws a row for each image: the image, then what it becomes at several steps.

    Args:
      image_u8: uint8 [N, H, W, C] with 1 or 3 channels, where N is at most `MAX_IMAGES`.
      changed_u8: uint8 [steps, N, H, W, C].
      titles: title of each image.
      title: title of the figure.
    """
    rows = np.concatenate([image_u8[None], changed_u8]).swapaxes(0, 1)
    num_images, columns, height, width = rows.shape[:4]
    fig = tiles.new_figure(
        0.75 * columns + 1,
        0.75 * num_images * height / width + 0.6,
        title,
        "Each image, and what it becomes if it is trained on in the first steps.",
    )
    axes = fig.subplots()
    squeezed = [[image.squeeze() for image in row] for row in rows]
    tiles.draw_rows(axes, squeezed, cmap="gray", vmin=0, vmax=255)
    steps = ["image", *tiles.number_labels(columns - 1)]
    tiles.set_labels(axes, ("", names.shorten(titles, _MAX_LETTERS)), ("step", steps))
    return fig
