"""Receptive fields: the pixels of the image that one value of each layer depends on."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.nn.layer_table import Layer
from cnn_jax.plots import figure, tiles
from cnn_jax.wording import pluralize

MAX_LAYERS = 14
_MAX_COLUMNS = 7
_MARKER_COLOUR = "tab:red"
_PADDING_COLOUR = "0.7"  # Grey outside the image, where the padding is.

Region = tuple[range, range]


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    layers: Sequence[Layer],
    maps: Mapping[str, npt.NDArray[np.float32]],
    title: str,
) -> Figure:
    """Draws for each layer the value in the middle of its map and, above, its receptive field.

    Args:
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      layers: all layers from the image to the logits.
      maps: float32 [H', W', C'] after each convolution and pooling, by the layer's name.
      title: title of the figure.
    """
    prefixes = ("conv", "pool", "linear")  # An activation sees no more than its convolution.
    drawable = [layer for layer in layers if layer.name.startswith(prefixes)]
    shown = drawable[:MAX_LAYERS]
    columns = min(_MAX_COLUMNS, len(shown))
    blocks = -(-len(shown) // columns)
    if len(drawable) > MAX_LAYERS:
        title += f" ({tiles.describe_count(len(drawable), 'layer', MAX_LAYERS)})"
    ratio = image_u8.shape[0] / image_u8.shape[1]
    fig = tiles.new_figure(
        max(6, 1.7 * columns),
        blocks * (3.2 * ratio + 1),
        title,
        "Above: the pixels that one value of a layer depends on; grey is outside the image. "
        "Below: that value in the layer's map, where dark is small and bright is large.",
    )
    grid = fig.subplots(2 * blocks, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    fields = [layer.receptive_field_at(*_middle(layer)) for layer in shown]
    for index, (layer, field) in enumerate(zip(shown, fields, strict=True)):
        block, column = divmod(index, columns)
        above, below = grid[2 * block : 2 * block + 2, column]
        _show_field(above, image_u8, field, _bounds(image_u8, fields))
        size = "x".join(map(str, layer.receptive_field))
        above.set_title(f"{layer.name}\nsees {size} pixels", **tiles.TEXT)
        if layer.name in maps:
            _show_value(below, layer, maps[layer.name])
        else:
            text = f"each of its\n{pluralize(layer.output_shape[0], 'value')}"
            below.text(0.5, 0.5, text, ha="center", va="center", **tiles.TEXT)
    return fig


def _middle(layer: Layer) -> tuple[int, int]:
    """Returns the row and column in the middle of a layer's map; (0, 0) for a layer without map."""
    height, width = layer.output_shape[:2] if len(layer.output_shape) == 3 else (1, 1)
    return height // 2, width // 2


def _bounds(image_u8: npt.NDArray[np.uint8], fields: Sequence[Region]) -> Region:
    """Returns the rows and columns that contain the image and all receptive fields."""
    sides = zip(image_u8.shape, *fields, strict=False)
    rows, columns = (
        range(min(0, *(f.start for f in side)), max(size, *(f.stop for f in side)))
        for size, *side in sides
    )
    return rows, columns


def _show_field(axes: Axes, image_u8: npt.NDArray[np.uint8], field: Region, bounds: Region) -> None:
    """Draws the image with a rectangle around a receptive field.

    Args:
      axes: axes to draw on.
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      field: rows and columns of the receptive field.
      bounds: rows and columns to show, so that all fields have the same scale.
    """
    axes.set_axis_on()
    axes.imshow(image_u8.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.add_patch(_rectangle(*field, linewidth=2))
    rows, columns = bounds
    margin = 1
    axes.set_ylim(rows.stop - 0.5 + margin, rows.start - 0.5 - margin)
    axes.set_xlim(columns.start - 0.5 - margin, columns.stop - 0.5 + margin)
    axes.set_facecolor(_PADDING_COLOUR)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _show_value(axes: Axes, layer: Layer, feature_map: npt.NDArray[np.float32]) -> None:
    """Marks the value in the middle of a map, float32 [H, W, C].

    It draws the channel where this value is largest, because some channels are zero everywhere.
    """
    row, column = _middle(layer)
    channel = int(feature_map[row, column].argmax())
    axes.imshow(feature_map[..., channel], cmap="gray", interpolation="nearest")
    axes.add_patch(_rectangle(range(row, row + 1), range(column, column + 1), linewidth=1.5))
    height, width, channels = feature_map.shape
    axes.set_title(f"map of {height}x{width},\nchannel {channel + 1} of {channels}", **tiles.TEXT)


def _rectangle(rows: range, columns: range, linewidth: float) -> Rectangle:
    """Returns a rectangle around pixels. Pixel centres have integer coordinates."""
    return Rectangle(
        (columns.start - 0.5, rows.start - 0.5),
        len(columns),
        len(rows),
        fill=False,
        edgecolor=_MARKER_COLOUR,
        linewidth=linewidth,
    )
