"""Saliency: the gradient of the predicted class's logit with respect to the pixels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnn_jax.plots import figure, names, tiles

MAX_IMAGES = 10
_PERCENTILE = 99.8  # End of the colour scale. A few huge values would leave all others dark.
_HEAT = "inferno"


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    saliency: npt.NDArray[np.float32],
    titles: Sequence[str],
    title: str,
) -> Figure:
    """Draws a column for each image: the image, the gradient's magnitude, and both together.

    Args:
      image_u8: uint8 [N, H, W, C] with 1 or 3 channels, where N is at most `MAX_IMAGES`.
      saliency: float32 [N, H, W], magnitude of the gradient in logits per unit of intensity.
      titles: title of each image, all with the same number of lines.
      title: title of the figure.
    """
    height, width = saliency.shape[1:]
    fig = tiles.new_figure(
        1.25 * max(5, len(titles)) + 1.6,
        1.25 * 3 * height / width + 1,
        title,
        "The brighter a pixel glows, the more a small change of it changes the logit of the "
        "predicted class. Intensity: 0 is black, 1 is white.",
    )
    above, middle, below = rows = fig.subplots(3, 1)
    norm = Normalize(0, tiles.color_limit([saliency], _PERCENTILE), clip=True)
    images = [image.squeeze() for image in image_u8]
    tiles.draw_rows(above, [images], cmap="gray", vmin=0, vmax=255)
    heat = tiles.draw_rows(middle, [saliency], cmap=_HEAT, norm=norm)
    glow = colormaps[_HEAT](norm(saliency))
    glow[..., 3] = norm(saliency)  # The stronger the gradient, the less of the image shows.
    tiles.draw_rows(below, [images], cmap="gray", vmin=0, vmax=255)
    tiles.draw_rows(below, [glow])
    for axes, label in zip(rows, ("image", "|gradient|", "both"), strict=True):
        tiles.set_labels(axes, ("", [label]))
    lines = zip(*(text.split("\n") for text in titles), strict=True)
    columns = zip(*(names.shorten(line, 17) for line in lines), strict=True)
    column_labels = ["\n".join(column) for column in columns]
    tiles.set_labels(above, ("", ["image"]), ("", column_labels))
    text = "|gradient| (logits per unit of intensity)"
    tiles.add_colorbar(fig, list(rows), heat, text, extend="max")
    return fig
