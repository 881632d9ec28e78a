"""The weights of a layer: the filters of a convolution, or the maps of each class."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnn_jax.plots import figure, names, tiles
from cnn_jax.plots.tiles import MAX_TILES

_FILTERS_PER_ROW = 8  # For filters with one channel: large enough to write weights into them.
_MAX_SIZE_WITH_WEIGHTS = 3  # Larger kernels have too many weights to write.
_COLOURS = ("red", "green", "blue")
_PITCH = 1.15  # From one row to the next, in heights of a cell, with room for a label.
_COLORBAR_TEXT = "weight (no unit)"

Floats = npt.NDArray[np.float32]


@figure.styled
def draw_convolution(name: str, kernel: Floats, source: str) -> Figure:
    """Draws the filters of a convolution.

    Args:
      name: name of the layer.
      kernel: float32 [k, k, C, O].
      source: name of the layer that is its input, or `image`.
    """
    size, _, channels, filters = kernel.shape
    title = f"{name}: {tiles.describe_count(filters, 'filter')} of {size}x{size}x{channels}"
    if channels == 1:
        return _draw_flat(title, kernel[:, :, 0, :MAX_TILES].transpose(2, 0, 1), source)
    if channels > MAX_TILES:
        title += f", of which the {tiles.describe_count(channels, 'channel')}"
    shown = kernel[:, :, :MAX_TILES, :MAX_TILES].transpose(3, 2, 0, 1)
    filter_labels, channel_labels = map(tiles.number_labels, shown.shape[:2])
    weights = f"is one filter: {size}x{size} weights for every channel of"
    if source != "image":
        rows, columns = ("filter", filter_labels), (f"channel of {source}", channel_labels)
        return _draw_grid(title, f"Each row {weights} {source}.", shown, rows, columns, 0.45)
    # An image has so few channels that they make better rows than columns.
    colours = list(_COLOURS) if channels == len(_COLOURS) else channel_labels
    rows, columns = ("channel of the image", colours), ("filter", filter_labels)
    explanation = f"Each column {weights} the image."
    return _draw_grid(title, explanation, shown.swapaxes(0, 1), rows, columns, 0.6)


@figure.styled
def draw_linear(name: str, kernel: Floats, class_names: Sequence[str], source: str) -> Figure:
    """Draws the weights of the fully connected layer as maps, one row for each class.

    Args:
      name: name of the layer.
      kernel: float32 [h, w, C, K], where [h, w, C] is the shape of the last feature map.
      class_names: names of the K classes.
      source: name of the layer of that feature map.
    """
    height, width, channels, classes = kernel.shape
    shown = kernel[:, :, :MAX_TILES, :MAX_TILES].transpose(3, 2, 0, 1)
    class_count = tiles.describe_count(classes, "class")
    channel_count = tiles.describe_count(channels, "channel")
    return _draw_grid(
        f"{name}: {class_count}, {channel_count} of {source}",
        f"A class has one weight for every value of {source} ({height}x{width}x{channels}). The "
        "sum of weight x value, plus the class's bias, is its logit.",
        shown,
        ("class", names.shorten(class_names[:MAX_TILES])),
        (f"channel of {source}", tiles.number_labels(shown.shape[1])),
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
    """Draws a grid of small maps.

    Args:
      title: title of the figure.
      explanation: one or two sentences below the title.
      shown: float32 [rows, columns, h, w].
      rows: label of the row axis, and the label of each row.
      columns: label of the column axis, and the label of each column.
      cell: width of a map in units of 100 pixels.
    """
    _, _, height, width = shown.shape
    fig = tiles.new_figure(
        max(6, cell * shown.shape[1] + 2),
        max(1.5, cell * shown.shape[0] * height / width + 0.6),
        title,
        explanation,
    )
    axes = fig.subplots()
    norm = tiles.symmetric_norm([shown])
    image = tiles.draw_rows(axes, shown, norm=norm, cmap=tiles.DIVERGING)
    tiles.set_labels(axes, rows, columns)
    tiles.add_colorbar(fig, [axes], image, _COLORBAR_TEXT)
    return fig


def _draw_flat(title: str, shown: Floats, source: str) -> Figure:
    """Draws filters with one channel, float32 [O, k, k]; small ones with their weights as text."""
    rows = [
        shown[start : start + _FILTERS_PER_ROW] for start in range(0, len(shown), _FILTERS_PER_ROW)
    ]
    fig = tiles.new_figure(
        1.3 * max(4, len(rows[0])) + 1.5,
        1.5 * len(rows) + 0.3,
        title,
        f"Each filter slides over the {source}. At every position the sum of weight x pixel, plus "
        "the filter's bias, is one value of its feature map.",
    )
    axes = fig.subplots()
    norm = tiles.symmetric_norm([shown])
    image = tiles.draw_rows(axes, rows, _PITCH, norm=norm, cmap=tiles.DIVERGING)
    for index, tile in enumerate(shown):
        row, x = divmod(index, _FILTERS_PER_ROW)
        y = _PITCH * row
        axes.text(x, y - 0.46, f"filter {index + 1}", ha="center", va="bottom", **tiles.TEXT)
        if len(tile) <= _MAX_SIZE_WITH_WEIGHTS:
            _write_weights(axes, tile, x, y, norm)
    tiles.add_colorbar(fig, [axes], image, _COLORBAR_TEXT)
    return fig


def _write_weights(axes: Axes, tile: Floats, x: float, y: float, norm: Normalize) -> None:
    """Writes every weight of a [k, k] tile with the centre (x, y) into its pixel."""
    offsets = tiles.WIDTH * ((np.arange(len(tile)) + 0.5) / len(tile) - 0.5)
    for (row, column), weight in np.ndenumerate(tile):
        is_dark = abs(float(norm(float(weight))) - 0.5) > 0.35
        axes.text(
            x + float(offsets[column]),
            y + float(offsets[row]),
            f"{weight:.2f}".replace("-0.00", "0.00"),
            ha="center",
            va="center",
            fontsize=7,
            color="w" if is_dark else "k",
        )
