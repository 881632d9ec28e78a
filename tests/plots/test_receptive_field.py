from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnn_jax.nn import shapes
from cnn_jax.plots import receptive_field
from tests.plots.legible import assert_legible


def draw(image_shape: tuple[int, int, int] = (28, 28, 1), **changes: Any) -> Any:
    """The figure, and the columns of its axes by the names of their layers."""
    reference: dict[str, Any] = {
        "features": (8, 16),
        "kernel_size": 3,
        "strides": 1,
        "padding": "SAME",
        "activation": "relu",
        "pool": "max",
    }
    layers = list(shapes.walk_layers(image_shape, 10, **(reference | changes)))
    generator = np.random.default_rng(0)
    maps = {a.name: generator.random(a.output_shape, np.float32) for a in layers[1:-1]}
    image_u8 = generator.integers(0, 256, image_shape, dtype=np.uint8)
    drawn = receptive_field.draw(image_u8, layers, maps, "title")
    seeing = {a.get_title().split("\n")[0]: a for a in drawn.axes if "sees" in a.get_title()}
    return drawn, seeing, maps


def marked(axes: Axes) -> tuple[float, ...]:
    """Left, top, width and height of the rectangle, in pixels from the corner of the picture."""
    (patch,) = axes.patches
    assert isinstance(patch, Rectangle)
    left, top = patch.get_xy()
    return left + 0.5, top + 0.5, patch.get_width(), patch.get_height()


def test_each_layer_shows_what_the_value_in_its_middle_sees() -> None:
    drawn, seeing, _ = draw()
    assert [axes.get_title() for axes in seeing.values()] == [
        "conv_1\nsees 3x3 pixels",
        "pool_1\nsees 4x4 pixels",
        "conv_2\nsees 8x8 pixels",
        "pool_2\nsees 10x10 pixels",
        "linear_1\nsees 28x28 pixels",
    ]
    # conv_1: the pixels around 14. pool_1's value 7 pools conv_1's 14 and 15: pixels 13 to 16.
    assert marked(seeing["conv_1"]) == (13, 13, 3, 3)
    assert marked(seeing["pool_1"]) == (13, 13, 4, 4)
    # conv_2's value 7 sees pool_1's 6 to 8, which see the pixels from 11 and from 15 on.
    assert marked(seeing["conv_2"]) == (11, 11, 8, 8)
    assert marked(seeing["linear_1"]) == (0, 0, 28, 28)
    assert_legible(drawn)


def test_the_value_is_marked_in_the_channel_where_it_is_largest() -> None:
    drawn, _, maps = draw((20, 28, 3))
    below = drawn.axes[5:]
    names = ["conv_1", "pool_1", "conv_2", "pool_2"]
    for axes, name in zip(below, names, strict=False):
        row, column = (size // 2 for size in maps[name].shape[:2])
        channel = maps[name][row, column].argmax()
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), maps[name][..., channel])
        assert marked(axes) == (column, row, 1, 1)
        assert f"channel {channel + 1} of" in axes.get_title()
    assert_legible(drawn)


def test_a_field_beyond_the_image_is_shown_whole() -> None:
    drawn, seeing, _ = draw((8, 8, 1), features=(2,) * 6, pool="none")
    # Each convolution adds 1 on each side of the pixel 4: from -2 to 10 after the sixth.
    assert marked(seeing["conv_6"]) == (-2, -2, 13, 13)
    assert seeing["conv_6"].get_xlim()[0] < -2.5
    assert seeing["conv_6"].get_xlim()[1] > 10.5
    assert_legible(drawn)


@pytest.mark.parametrize("features", [(1,), (2,) * 20])
def test_few_layers_and_many_are_legible(features: tuple[int, ...]) -> None:
    drawn, seeing, _ = draw((8, 12, 1), features=features, pool="none")
    assert len(seeing) == min(len(features) + 1, receptive_field.MOST)
    assert ("first 14 of 21 layers" in drawn.get_suptitle()) == (len(features) == 20)
    assert_legible(drawn)
