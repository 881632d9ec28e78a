"""Which pixels an answer hangs on: the gradient of the winning logit."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnn_jax.plots import figure, tiles

MOST = 10  # Images.
_PERCENTILE = 99.8  # Where the colours end: a few huge values would leave all others dark.
_HEAT = "inferno"


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    saliency: npt.NDArray[np.float32],
    titles: Sequence[str],
    title: str,
) -> Figure:
    """Draws a column for each image: itself, the gradient's magnitude, and both together.

    Args:
      image_u8: uint8 [N, H, W, C] with 1 or 3 channels, at most `MOST` of them.
      saliency: float32 [N, H, W], in logits for each unit of intensity.
      titles: of each image.
      title: above all.
    """
    height, width = saliency.shape[1:]
    drawn = tiles.new(
        1.25 * max(5, len(titles)) + 1.6,
        1.25 * 3 * height / width + 1,
        title,
        "The more a pixel glows, the more a small change of it changes the logit of what the "
        "network says. Intensity: 0 is black, 1 is white.",
    )
    above, middle, below = rows = drawn.subplots(3, 1)
    norm = Normalize(0, tiles.limit([saliency], _PERCENTILE), clip=True)
    images = [image.squeeze() for image in image_u8]
    tiles.show(above, [images], cmap="gray", vmin=0, vmax=255)
    heat = tiles.show(middle, [saliency], cmap=_HEAT, norm=norm)
    glow = colormaps[_HEAT](norm(saliency))
    glow[..., 3] = norm(saliency)  # The stronger, the less of the image shines through.
    tiles.show(below, [images], cmap="gray", vmin=0, vmax=255)
    tiles.show(below, [glow])
    for axes, words in zip(rows, ("image", "|gradient|", "both"), strict=True):
        tiles.label(axes, ("", [words]))
    cut = ["\n".join(figure.short(line, 17) for line in text.split("\n")) for text in titles]
    tiles.label(above, ("", ["image"]), ("", cut))
    words = "|gradient| (logits per unit of intensity)"
    tiles.explain_colours(drawn, list(rows), heat, words, extend="max")
    return drawn
