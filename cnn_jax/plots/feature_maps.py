"""What a network makes of one image: the maps after every layer, and its answer."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn_jax.plots import figure, tiles
from cnn_jax.plots.tiles import MOST

MOST_LAYERS = 15
_MOST_BARS = 10
_CELL = 0.62  # Sizes are in hundreds of pixels.
_LEFT_WIDTH = 2.5
_LEFT_HEIGHT = 4.5
_PERCENTILE = 99.5  # Where the colours end: a few huge values would leave no colour to the others.


@figure.styled
def draw(
    image_u8: npt.NDArray[np.uint8],
    maps: Mapping[str, npt.NDArray[np.float32]],
    probability: npt.NDArray[np.float64],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draws a row for each layer.

    Args:
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      maps: float32 [H', W', C'] after each layer, by its name.
      probability: [K], 0..1.
      class_names: of the K classes.
      title: says what the image is.
    """
    shown = dict(list(maps.items())[:MOST_LAYERS])
    most = max(feature_map.shape[2] for feature_map in shown.values())
    columns = min(most, MOST)
    right_width = _CELL * max(6, columns) + 1.7
    height = _CELL * len(shown) * image_u8.shape[0] / image_u8.shape[1] + 0.7
    drawn = tiles.new(
        _LEFT_WIDTH + right_width,
        max(_LEFT_HEIGHT, height),
        title,
        f"From top to bottom: {tiles.count(len(maps), 'layer', MOST_LAYERS)}, each computed from "
        "the one above; every channel is the map of one filter.",
    )
    drawn.set_layout_engine("constrained")  # The other one takes no care of parts of figures.
    widths = (_LEFT_WIDTH, right_width)
    left, right = drawn.subfigures(1, 2, squeeze=False, width_ratios=widths).flat
    rest = max(0.01, height - _LEFT_HEIGHT)
    above, below, empty = left.subplots(3, 1, height_ratios=(1.7, 2.5, rest))
    empty.set_axis_off()
    figure.show_image(above, image_u8)
    above.set_title("input image", **tiles.TEXT)
    _show_answer(below, probability, class_names)
    axes = right.subplots()
    image = tiles.show(
        axes,
        [feature_map[..., :MOST].transpose(2, 0, 1) for feature_map in shown.values()],
        norm=tiles.symmetric(shown.values(), _PERCENTILE),
        cmap=tiles.DIVERGING,
    )
    labels = [f"{name}\n{'x'.join(map(str, value.shape))}" for name, value in shown.items()]
    channel = "channel" if most <= MOST else f"channel (first {MOST} of up to {most})"
    tiles.label(axes, ("", labels), (channel, tiles.numbers(columns)))
    words = "value (no unit); the pointed ends stand for all values beyond"
    tiles.explain_colours(right, [axes], image, words, extend="both")
    return drawn


def _show_answer(
    axes: Axes, probability: npt.NDArray[np.float64], class_names: Sequence[str]
) -> None:
    """The probabilities as bars, of many classes only the most probable."""
    shown = np.sort(np.argsort(-probability, kind="stable")[:_MOST_BARS])
    percent = 100 * probability[shown]
    bars = axes.barh(range(len(shown)), percent, color="tab:blue")
    bars[int(percent.argmax())].set_color("tab:red")
    axes.bar_label(bars, [f"{p:.1f}" for p in percent], padding=3, **tiles.TEXT)
    axes.set_yticks(range(len(shown)), [figure.short(class_names[k]) for k in shown], **tiles.TEXT)
    axes.invert_yaxis()
    axes.set_xlim(0, 135)  # Room for the numbers.
    axes.set_xticks([0, 50, 100], ["0", "50", "100"], **tiles.TEXT)
    axes.set_xlabel("probability (%)", **tiles.TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    total = len(class_names)
    many = f" ({_MOST_BARS} of {total} classes)" if total > _MOST_BARS else ""
    axes.set_title(f"answer{many}", **tiles.TEXT)
