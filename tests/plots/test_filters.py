"""The figures of convolution filters and of linear weights."""

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
    """Returns the images that a figure shows, in reading order."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].get_images()]


def tick_labels(figure: Figure, axis: str) -> list[str]:
    ticks = getattr(figure.axes[0], f"get_{axis}ticklabels")()
    return [tick.get_text() for tick in ticks]


def title(figure: Figure) -> str:
    return figure.get_suptitle().split("\n")[0]


def test_filters_of_one_channel_are_shown_with_their_weights() -> None:
    weights = kernel(3, 3, 1, 10)
    figure = filters.draw_convolution("conv_1", weights, "image")
    assert title(figure) == "conv_1: 10 filters of 3x3x1"
    np.testing.assert_array_equal(tiles(figure), weights[:, :, 0].transpose(2, 0, 1))
    texts = [text.get_text() for text in figure.axes[0].texts]
    # Each filter has its name above it, and its nine weights.
    assert texts[10:12] == ["filter 2", f"{weights[0, 0, 0, 1]:.2f}"]
    assert len(texts) == 10 * (1 + 9)
    assert_legible(figure)


def test_rows_are_filters_and_columns_are_channels() -> None:
    weights = kernel(3, 3, 4, 5)
    figure = filters.draw_convolution("conv_2", weights, "pool_1")
    expected = [weights[:, :, channel, k] for k in range(5) for channel in range(4)]
    np.testing.assert_array_equal(tiles(figure), expected)
    assert figure.axes[0].get_ylabel() == "filter"
    assert figure.axes[0].get_xlabel() == "channel of pool_1"
    assert tick_labels(figure, "y") == ["1", "2", "3", "4", "5"]
    assert_legible(figure)


def test_rows_of_rgb_filters_are_channels() -> None:
    weights = kernel(5, 5, 3, 2)
    figure = filters.draw_convolution("conv_1", weights, "image")
    expected = [weights[:, :, channel, k] for channel in range(3) for k in range(2)]
    np.testing.assert_array_equal(tiles(figure), expected)
    assert tick_labels(figure, "y") == ["red", "green", "blue"]
    assert_legible(figure)


def test_first_filters_of_a_large_layer_are_shown() -> None:
    weights = kernel(3, 3, 20, 64)
    figure = filters.draw_convolution("conv_2", weights, "pool_1")
    assert (
        title(figure) == "conv_2: first 16 of 64 filters of 3x3x20, "
        "of which the first 16 of 20 channels"
    )
    assert len(tiles(figure)) == 16 * 16
    assert_legible(figure)


def test_each_class_has_a_map_for_each_channel() -> None:
    weights = kernel(2, 3, 4, 2)
    figure = filters.draw_linear(
        "linear_1", weights, ["T-shirt/top", "a very long $name$"], "pool_2"
    )
    expected = [weights[:, :, channel, k] for k in range(2) for channel in range(4)]
    np.testing.assert_array_equal(tiles(figure), expected)
    assert tick_labels(figure, "y") == ["T-shirt/top", "a very …name$"]
    assert_legible(figure)


@pytest.mark.parametrize("weights", [kernel(3, 3, 4, 5), np.zeros((3, 3, 4, 5), np.float32)])
def test_weights_share_one_scale_with_zero_in_the_middle(weights: npt.NDArray[np.float32]) -> None:
    figure = filters.draw_convolution("conv_2", weights, "pool_1")
    (norm,) = {image.norm for image in figure.axes[0].get_images()}
    # Any scale will do where all weights are zero.
    assert norm.vmax == pytest.approx(np.abs(weights).max() or 1)
    assert np.asarray(norm(np.zeros(1))) == 0.5
    assert figure.axes[1].get_ylabel() == "weight (no unit)"


@pytest.mark.parametrize("num_filters", [1, 2, 16])
@pytest.mark.parametrize("size", [1, 5])
def test_filters_of_every_size_are_legible(num_filters: int, size: int) -> None:
    assert_legible(filters.draw_convolution("conv_1", kernel(size, size, 1, num_filters), "image"))
    assert_legible(
        filters.draw_convolution("conv_2", kernel(size, size, 1 + size, num_filters), "pool_1")
    )
