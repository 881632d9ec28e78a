"""The feature maps of every layer for one image, and the prediction."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn_jax.plots import figure, names, tiles
from cnn_jax.plots.tiles import MAX_TILES

MAX_LAYERS = 15
_MAX_BARS = 10
# Sizes in units of 100 pixels.
_CELL = 0.62
_LEFT_WIDTH = 2.5
_LEFT_HEIGHT = 4.5
_PERCENTILE = 99.5  # End of the colour scale. A few huge values would leave the others no colour.


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    maps: Mapping[str, npt.NDArray[np.float32]],
    probability: npt.NDArray[np.float64],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draws image and prediction on the left, and a row of feature maps per layer on the right.

    Args:
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      maps: float32 [H', W', C'] after each layer, by the layer's name.
      probability: float64 [K], 0..1.
      class_names: names of the K classes.
      title: title of the figure.
    """
    shown = dict(list(maps.items())[:MAX_LAYERS])
    max_channels = max(feature_map.shape[2] for feature_map in shown.values())
    columns = min(max_channels, MAX_TILES)
    right_width = _CELL * max(6, columns) + 1.7
    height = _CELL * len(shown) * image_u8.shape[0] / image_u8.shape[1] + 0.7
    fig = tiles.new_figure(
        _LEFT_WIDTH + right_width,
        max(_LEFT_HEIGHT, height),
        title,
        f"From top to bottom: {tiles.describe_count(len(maps), 'layer', MAX_LAYERS)}, each "
        "computed from the one above. Every channel is the map of one filter.",
    )
    fig.set_layout_engine("constrained")  # The compressed layout ignores subfigures.
    widths = (_LEFT_WIDTH, right_width)
    left, right = fig.subfigures(1, 2, squeeze=False, width_ratios=widths).flat
    rest = max(0.01, height - _LEFT_HEIGHT)
    above, below, empty = left.subplots(3, 1, height_ratios=(1.7, 2.5, rest))
    empty.set_axis_off()
    figure.show_image(above, image_u8)
    above.set_title("input image", **tiles.TEXT)
    _draw_prediction(below, probability, class_names)
    axes = right.subplots()
    image = tiles.draw_rows(
        axes,
        [feature_map[..., :MAX_TILES].transpose(2, 0, 1) for feature_map in shown.values()],
        norm=tiles.symmetric_norm(shown.values(), _PERCENTILE),
        cmap=tiles.DIVERGING,
    )
    labels = [f"{name}\n{'x'.join(map(str, value.shape))}" for name, value in shown.items()]
    channel = "channel"
    if max_channels > MAX_TILES:
        channel += f" (first {MAX_TILES} of up to {max_channels})"
    tiles.set_labels(axes, ("", labels), (channel, tiles.number_labels(columns)))
    text = "value (no unit); the pointed ends stand for all values beyond"
    tiles.add_colorbar(right, [axes], image, text, extend="both")
    return fig


def _draw_prediction(
    axes: Axes, probability: npt.NDArray[np.float64], class_names: Sequence[str]
) -> None:
    """Draws the probabilities of the most probable classes as bars, in the order of the classes."""
    shown = np.sort(np.argsort(-probability, kind="stable")[:_MAX_BARS])
    percent = 100 * probability[shown]
    bars = axes.barh(range(len(shown)), percent, color="tab:blue")
    bars[int(percent.argmax())].set_color("tab:red")
    axes.bar_label(bars, [f"{p:.1f}" for p in percent], padding=3, **tiles.TEXT)
    labels = names.shorten([class_names[k] for k in shown])
    axes.set_yticks(range(len(shown)), labels, **tiles.TEXT)
    axes.invert_yaxis()
    axes.set_xlim(0, 135)  # Leaves room for the numbers beside the bars.
    axes.set_xticks([0, 50, 100], ["0", "50", "100"], **tiles.TEXT)
    axes.set_xlabel("probability (%)", **tiles.TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    total = len(class_names)
    part = f" ({_MAX_BARS} of {total} classes)" if total > _MAX_BARS else ""
    axes.set_title(f"prediction{part}", **tiles.TEXT)
