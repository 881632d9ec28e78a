"""How much of the image each layer sees: the receptive field of one value, on the image."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.nn.shapes import Layer
from cnn_jax.plots import figure, tiles

MOST = 14  # Layers.
_COLUMNS = 7
_MARK = "tab:red"
_GROUND = "0.7"  # Outside of the image, where padding puts zeros: grey.

Range2D = tuple[range, range]


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    layers: Sequence[Layer],
    maps: Mapping[str, npt.NDArray[np.float32]],
    title: str,
) -> Figure:
    """Draws a value in the middle of each layer's map, and above it the pixels that it depends on.

    Args:
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      layers: from the image to the logits.
      maps: float32 [H', W', C'] after each convolution and pooling, by the layer's name.
      title: says what the image is.
    """
    kinds = ("conv", "pool", "linear")  # An activation sees no more than its convolution.
    seeing = [layer for layer in layers if layer.name.startswith(kinds)]
    shown = seeing[:MOST]
    columns = min(_COLUMNS, len(shown))
    blocks = -(-len(shown) // columns)
    ratio = image_u8.shape[0] / image_u8.shape[1]
    drawn = tiles.new(
        max(6, 1.7 * columns),
        blocks * (3.2 * ratio + 1),
        title + (f" ({tiles.count(len(seeing), 'layer', MOST)})" if len(seeing) > MOST else ""),
        "Above: the pixels that one value of a layer depends on; grey is outside of the image. "
        "Below: that value in the layer's map, where dark is small and bright is large.",
    )
    grid = drawn.subplots(2 * blocks, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    fields = [_middle(layer)[1] for layer in shown]
    for index, (layer, field) in enumerate(zip(shown, fields, strict=True)):
        block, column = divmod(index, columns)
        above, below = grid[2 * block : 2 * block + 2, column]
        _show_field(above, image_u8, field, _bounds(image_u8, fields))
        size = "x".join(map(str, layer.receptive_field))
        above.set_title(f"{layer.name}\nsees {size} pixels", **tiles.TEXT)
        if layer.name in maps:
            _show_value(below, layer, maps[layer.name])
        else:
            words = f"each of its\n{layer.output_shape[0]} values\nsees the\nwhole image"
            below.text(0.5, 0.5, words, ha="center", va="center", **tiles.TEXT)
    return drawn


def _middle(layer: Layer) -> tuple[tuple[int, int], Range2D]:
    """The place of the value in the middle of a map, and the pixels that it depends on."""
    height, width = layer.output_shape[:2] if len(layer.output_shape) == 3 else (1, 1)
    place = (height // 2, width // 2)
    return place, layer.field_of(*place)


def _bounds(image_u8: npt.NDArray[np.uint8], fields: Sequence[Range2D]) -> Range2D:
    """The rows and columns that hold the image and all fields."""
    sides = zip(image_u8.shape, *fields, strict=False)
    rows, columns = (
        range(min(0, *(f.start for f in side)), max(size, *(f.stop for f in side)))
        for size, *side in sides
    )
    return rows, columns


def _show_field(
    axes: Axes, image_u8: npt.NDArray[np.uint8], field: Range2D, bounds: Range2D
) -> None:
    axes.set_axis_on()
    axes.imshow(image_u8.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.add_patch(_rectangle(*field, linewidth=2))
    rows, columns = bounds
    margin = 1
    axes.set_ylim(rows.stop - 0.5 + margin, rows.start - 0.5 - margin)
    axes.set_xlim(columns.start - 0.5 - margin, columns.stop - 0.5 + margin)
    axes.set_facecolor(_GROUND)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _show_value(axes: Axes, layer: Layer, feature_map: npt.NDArray[np.float32]) -> None:
    """The channel whose value in the middle is the largest, since some are zero everywhere."""
    (row, column), _ = _middle(layer)
    channel = int(feature_map[row, column].argmax())
    axes.imshow(feature_map[..., channel], cmap="gray", interpolation="nearest")
    value = _rectangle(range(row, row + 1), range(column, column + 1), linewidth=1.5)
    axes.add_patch(value)
    height, width, channels = feature_map.shape
    axes.set_title(f"map of {height}x{width},\nchannel {channel + 1} of {channels}", **tiles.TEXT)


def _rectangle(rows: range, columns: range, linewidth: float) -> Rectangle:
    """Around those pixels, whose middles are whole numbers."""
    return Rectangle(
        (columns.start - 0.5, rows.start - 0.5),
        len(columns),
        len(rows),
        fill=False,
        edgecolor=_MARK,
        linewidth=linewidth,
    )
