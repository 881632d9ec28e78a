from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

from cnn_jax.plots import filters
from tests.plots.legible import assert_legible


def kernel(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def tiles(figure: Figure) -> list[npt.NDArray[Any]]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].get_images()]


def labels(figure: Figure, axis: str) -> list[str]:
    ticks = getattr(figure.axes[0], f"get_{axis}ticklabels")()
    return [tick.get_text() for tick in ticks]


def title(figure: Figure) -> str:
    return figure.get_suptitle().split("\n")[0]


def test_one_channel_is_shown_filter_by_filter_with_its_numbers() -> None:
    weights = kernel(3, 3, 1, 10)
    drawn = filters.draw_convolution("conv_1", weights, "image")
    assert title(drawn) == "conv_1: 10 filters of 3x3x1"
    np.testing.assert_array_equal(tiles(drawn), weights[:, :, 0].transpose(2, 0, 1))
    words = [text.get_text() for text in drawn.axes[0].texts]
    # Above each filter its name, and then its nine weights.
    assert words[10:12] == ["filter 2", f"{weights[0, 0, 0, 1]:.2f}"]
    assert len(words) == 10 * (1 + 9)
    assert_legible(drawn)


def test_rows_are_filters_and_columns_are_channels() -> None:
    weights = kernel(3, 3, 4, 5)
    drawn = filters.draw_convolution("conv_2", weights, "pool_1")
    expected = [weights[:, :, channel, number] for number in range(5) for channel in range(4)]
    np.testing.assert_array_equal(tiles(drawn), expected)
    assert drawn.axes[0].get_ylabel() == "filter"
    assert drawn.axes[0].get_xlabel() == "channel of pool_1"
    assert labels(drawn, "y") == ["1", "2", "3", "4", "5"]
    assert_legible(drawn)


def test_colours_are_rows() -> None:
    weights = kernel(5, 5, 3, 2)
    drawn = filters.draw_convolution("conv_1", weights, "image")
    expected = [weights[:, :, colour, number] for colour in range(3) for number in range(2)]
    np.testing.assert_array_equal(tiles(drawn), expected)
    assert labels(drawn, "y") == ["red", "green", "blue"]
    assert_legible(drawn)


def test_of_a_large_layer_the_first_ones_are_shown() -> None:
    weights = kernel(3, 3, 20, 64)
    drawn = filters.draw_convolution("conv_2", weights, "pool_1")
    assert (
        title(drawn) == "conv_2: first 16 of 64 filters of 3x3x20, "
        "of which the first 16 of 20 channels"
    )
    assert len(tiles(drawn)) == 16 * 16
    assert_legible(drawn)


def test_each_class_has_a_map_for_each_channel() -> None:
    weights = kernel(2, 3, 4, 2)
    drawn = filters.draw_linear(
        "linear_1", weights, ["T-shirt/top", "a very long $name$"], "pool_2"
    )
    expected = [weights[:, :, channel, k] for k in range(2) for channel in range(4)]
    np.testing.assert_array_equal(tiles(drawn), expected)
    assert labels(drawn, "y") == ["T-shirt/top", "a very long $…"]
    assert_legible(drawn)


@pytest.mark.parametrize("weights", [kernel(3, 3, 4, 5), np.zeros((3, 3, 4, 5), np.float32)])
def test_one_scale_with_zero_in_the_middle(weights: npt.NDArray[np.float32]) -> None:
    drawn = filters.draw_convolution("conv_2", weights, "pool_1")
    (norm,) = {image.norm for image in drawn.axes[0].get_images()}
    # Where all is zero, any scale does.
    assert norm.vmax == pytest.approx(np.abs(weights).max() or 1)
    assert np.asarray(norm(np.zeros(1))) == 0.5  # Zero is in the middle.
    assert drawn.axes[1].get_ylabel() == "weight (no unit)"


@pytest.mark.parametrize("filters_", [1, 2, 16])
@pytest.mark.parametrize("size", [1, 5])
def test_every_size_is_legible(filters_: int, size: int) -> None:
    assert_legible(filters.draw_convolution("conv_1", kernel(size, size, 1, filters_), "image"))
    assert_legible(
        filters.draw_convolution("conv_2", kernel(size, size, 1 + size, filters_), "pool_1")
    )
