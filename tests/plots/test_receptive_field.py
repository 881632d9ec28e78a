"""The figure of the receptive field of each layer."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cnn_jax.model import ConvNet, layers_of
from cnn_jax.plots import receptive_field
from tests.plots.legible import assert_legible


def draw(image_shape: tuple[int, int, int] = (28, 28, 1), **changes: Any) -> Any:
    """Draws the figure of a small model.

    Args:
      image_shape: (height, width, channels).
      changes: fields of `config.model` that differ from the reference.

    Returns:
      The figure, its axes with receptive fields by layer, and the feature maps by layer.
    """
    layers = layers_of(ConvNet(**changes), image_shape)
    generator = np.random.default_rng(0)
    maps = {layer.name: generator.random(layer.output_shape, np.float32) for layer in layers[1:-1]}
    image_u8 = generator.integers(0, 256, image_shape, dtype=np.uint8)
    figure = receptive_field.draw(image_u8, layers, maps, "title")
    fields = {a.get_title().split("\n")[0]: a for a in figure.axes if "sees" in a.get_title()}
    return figure, fields, maps


def rectangle(axes: Axes) -> tuple[float, ...]:
    """Returns left, top, width and height of the marked rectangle, in pixels of the image."""
    (patch,) = axes.patches
    assert isinstance(patch, Rectangle)
    left, top = patch.get_xy()
    return left + 0.5, top + 0.5, patch.get_width(), patch.get_height()


def test_each_layer_shows_the_receptive_field_of_its_middle_unit() -> None:
    figure, fields, _ = draw()
    assert [axes.get_title() for axes in fields.values()] == [
        "conv_1\nsees 3x3 pixels",
        "pool_1\nsees 4x4 pixels",
        "conv_2\nsees 8x8 pixels",
        "pool_2\nsees 10x10 pixels",
        "linear_1\nsees 28x28 pixels",
    ]
    # conv_1: the pixels around 14. Unit 7 of pool_1 pools units 14 and 15 of conv_1: pixels 13 to
    # 16.
    assert rectangle(fields["conv_1"]) == (13, 13, 3, 3)
    assert rectangle(fields["pool_1"]) == (13, 13, 4, 4)
    # Unit 7 of conv_2 sees units 6 to 8 of pool_1: pixels 11 to 14, 13 to 16 and 15 to 18.
    assert rectangle(fields["conv_2"]) == (11, 11, 8, 8)
    assert rectangle(fields["linear_1"]) == (0, 0, 28, 28)
    assert_legible(figure)


def test_unit_is_marked_in_the_channel_where_it_is_largest() -> None:
    figure, _, maps = draw((20, 28, 3))
    map_axes = figure.axes[5:]
    names = ["conv_1", "pool_1", "conv_2", "pool_2"]
    for axes, name in zip(map_axes, names, strict=False):
        row, column = (size // 2 for size in maps[name].shape[:2])
        channel = maps[name][row, column].argmax()
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), maps[name][..., channel])
        assert rectangle(axes) == (column, row, 1, 1)
        assert f"channel {channel + 1} of" in axes.get_title()
    assert_legible(figure)


def test_receptive_field_beyond_the_image_is_shown_in_full() -> None:
    figure, fields, _ = draw((8, 8, 1), features=(2,) * 6, pool="none")
    # Each convolution adds 1 on each side of the pixel 4: from -2 to 10 after the sixth.
    assert rectangle(fields["conv_6"]) == (-2, -2, 13, 13)
    assert fields["conv_6"].get_xlim()[0] < -2.5
    assert fields["conv_6"].get_xlim()[1] > 10.5
    assert_legible(figure)


@pytest.mark.parametrize("features", [(1,), (2,) * 20])
def test_few_and_many_layers_are_legible(features: tuple[int, ...]) -> None:
    figure, fields, _ = draw((8, 12, 1), features=features, pool="none")
    assert len(fields) == min(len(features) + 1, receptive_field.MAX_LAYERS)
    assert ("first 14 of 21 layers" in figure.get_suptitle()) == (len(features) == 20)
    assert_legible(figure)
