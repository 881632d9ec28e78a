"""The filters of a layer: what each of them, or each class, looks for."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnn_jax.plots import figure, tiles
from cnn_jax.plots.tiles import MOST

_IN_A_ROW = 8  # Filters that are so large that their weights can be written into them.
_LARGEST_WRITTEN = 3  # Of their kernels.
_COLOURS = ("red", "green", "blue")
_PITCH = 1.15  # Room for a word above each.
_LEGEND = "weight (no unit)"

Floats = npt.NDArray[np.float32]


@figure.styled
def draw_convolution(name: str, kernel: Floats, source: str) -> Figure:
    """Draws the filters of a convolution.

    Args:
      name: of the layer.
      kernel: float32 [k, k, C, O].
      source: the layer whose C channels it looks at, or `image`.
    """
    size, _, channels, filters = kernel.shape
    title = f"{name}: {tiles.count(filters, 'filter')} of {size}x{size}x{channels}"
    if channels == 1:
        return _draw_flat(title, kernel[:, :, 0, :MOST].transpose(2, 0, 1), source)
    if channels > MOST:
        title += f", of which the {tiles.count(channels, 'channel')}"
    shown = kernel[:, :, :MOST, :MOST].transpose(3, 2, 0, 1)
    filter_labels, channel_labels = map(tiles.numbers, shown.shape[:2])
    words = f"is one filter: {size}x{size} weights for every channel of"
    if source != "image":
        rows, columns = ("filter", filter_labels), (f"channel of {source}", channel_labels)
        return _draw_grid(title, f"Each row {words} {source}.", shown, rows, columns, 0.45)
    # So few channels make better rows than columns.
    colours = list(_COLOURS) if channels == len(_COLOURS) else channel_labels
    rows, columns = ("channel of the image", colours), ("filter", filter_labels)
    explanation = f"Each column {words} the image."
    return _draw_grid(title, explanation, shown.swapaxes(0, 1), rows, columns, 0.6)


@figure.styled
def draw_linear(name: str, kernel: Floats, class_names: Sequence[str], source: str) -> Figure:
    """Draws the weights of the fully connected layer as maps.

    Args:
      name: of the layer.
      kernel: float32 [h, w, C, K], where [h, w, C] is the form of the last feature map.
      class_names: of the K classes.
      source: the layer of that feature map.
    """
    height, width, channels, classes = kernel.shape
    shown = kernel[:, :, :MOST, :MOST].transpose(3, 2, 0, 1)
    return _draw_grid(
        f"{name}: {tiles.count(classes, 'class')}, {tiles.count(channels, 'channel')} of {source}",
        f"A class has one weight for every value of {source} ({height}x{width}x{channels}). The "
        "sum of weight x value, plus the class's bias, is its logit.",
        shown,
        ("class", [figure.short(class_name) for class_name in class_names[:MOST]]),
        (f"channel of {source}", tiles.numbers(shown.shape[1])),
        0.6,
    )


def _draw_grid(
    title: str,
    explanation: str,
    shown: Floats,
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
    cell: float,
) -> Figure:
    """Draws [rows, columns, h, w], where a cell is so many hundreds of pixels wide.

    `rows` and `columns`: what they are, and the name of each.
    """
    _, _, height, width = shown.shape
    drawn = tiles.new(
        max(6, cell * shown.shape[1] + 2),
        max(1.5, cell * shown.shape[0] * height / width + 0.6),
        title,
        explanation,
    )
    axes = drawn.subplots()
    image = tiles.show(axes, shown, norm=tiles.symmetric([shown]), cmap=tiles.DIVERGING)
    tiles.label(axes, rows, columns)
    tiles.explain_colours(drawn, [axes], image, _LEGEND)
    return drawn


def _draw_flat(title: str, shown: Floats, source: str) -> Figure:
    """Draws filters with one input channel, [O, k, k], and their numbers."""
    rows = [shown[start : start + _IN_A_ROW] for start in range(0, len(shown), _IN_A_ROW)]
    drawn = tiles.new(
        1.3 * max(4, len(rows[0])) + 1.5,
        1.5 * len(rows) + 0.3,
        title,
        f"Each slides over the {source}: the sum of weight x pixel at a place, plus the filter's "
        "bias, is one value of its feature map.",
    )
    axes = drawn.subplots()
    norm = tiles.symmetric([shown])
    image = tiles.show(axes, rows, _PITCH, norm=norm, cmap=tiles.DIVERGING)
    for index, tile in enumerate(shown):
        row, x = divmod(index, _IN_A_ROW)
        y = _PITCH * row
        axes.text(x, y - 0.46, f"filter {index + 1}", ha="center", va="bottom", **tiles.TEXT)
        if len(tile) <= _LARGEST_WRITTEN:
            _write(axes, tile, x, y, norm)
    tiles.explain_colours(drawn, [axes], image, _LEGEND)
    return drawn


def _write(axes: Axes, tile: Floats, x: float, y: float, norm: Normalize) -> None:
    """Writes the weights into a tile."""
    places = tiles.WIDTH * ((np.arange(len(tile)) + 0.5) / len(tile) - 0.5)
    for (row, column), weight in np.ndenumerate(tile):
        is_dark = abs(float(norm(float(weight))) - 0.5) > 0.35
        axes.text(
            x + float(places[column]),
            y + float(places[row]),
            f"{weight:.2f}".replace("-0.00", "0.00"),
            ha="center",
            va="center",
            fontsize=7,
            color="w" if is_dark else "k",
        )
