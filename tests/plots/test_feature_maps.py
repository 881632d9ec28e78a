"""The figure with the feature maps of every layer and the predicted probabilities."""

from typing import Any

import numpy as np
import pytest

from cnn_jax.plots import feature_maps
from tests.plots.legible import assert_legible

FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker"]
FASHION += ["Bag", "Ankle boot"]


def random_maps(**shapes: tuple[int, int, int]) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(0, 1, s).astype(np.float32) for name, s in shapes.items()}


def random_image(channels: int = 1) -> Any:
    return np.random.default_rng(1).integers(0, 256, (8, 8, channels), dtype=np.uint8)


def test_each_layer_is_a_row_of_maps_and_all_share_one_scale() -> None:
    maps = random_maps(conv_1=(8, 8, 2), leaky_relu_1=(8, 8, 2), pool_1=(4, 4, 2), conv_2=(4, 4, 3))
    figure = feature_maps.draw(random_image(), maps, np.full(10, 0.1), FASHION, "title")
    image_axes, _, _, grid, bar = figure.axes
    np.testing.assert_array_equal(image_axes.get_images()[0].get_array(), random_image()[..., 0])
    tiles = grid.get_images()
    expected = [value[..., channel] for value in maps.values() for channel in range(value.shape[2])]
    for tile, array in zip(tiles, expected, strict=True):
        np.testing.assert_array_equal(tile.get_array(), array)
    (norm,) = {tile.norm for tile in tiles}
    magnitudes = np.abs(np.concatenate([value.ravel() for value in maps.values()]))
    assert norm.vmax == pytest.approx(np.percentile(magnitudes, 99.5))
    assert np.asarray(norm(np.zeros(1))) == 0.5  # Zero is in the middle.
    assert bar.get_ylabel().startswith("value (no unit)")
    rows = [label.get_text() for label in grid.get_yticklabels()]
    assert rows == ["conv_1\n8x8x2", "leaky_relu_1\n8x8x2", "pool_1\n4x4x2", "conv_2\n4x4x3"]
    assert_legible(figure)


def test_each_class_has_a_bar_with_its_probability() -> None:
    probability = np.arange(10) / 45  # 1 + 2 + ... + 9 = 45.
    figure = feature_maps.draw(
        random_image(3), random_maps(conv_1=(8, 8, 1)), probability, FASHION, "t"
    )
    bars = figure.axes[1].patches
    widths = [bar.get_width() for bar in bars]  # type: ignore[attr-defined]
    np.testing.assert_allclose(widths, 100 * probability)
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == FASHION
    assert_legible(figure)


def test_most_probable_of_many_classes_are_shown_in_class_order() -> None:
    probability = np.zeros(100)
    probability[5:25] = np.arange(20) / 190  # The ten largest belong to classes 15..24.
    names = [f"class {k}" for k in range(100)]
    figure = feature_maps.draw(
        random_image(), random_maps(conv_1=(8, 8, 1)), probability, names, "t"
    )
    names_shown = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert names_shown[:2] == ["class 15", "class 16"]
    assert len(names_shown) == 10
    assert figure.axes[1].get_title() == "prediction (10 of 100 classes)"
    assert_legible(figure)


def test_first_channels_and_layers_of_a_large_model_are_shown() -> None:
    maps = random_maps(**{f"conv_{stage}": (2, 2, 40) for stage in range(1, 21)})
    figure = feature_maps.draw(random_image(), maps, np.full(10, 0.1), FASHION, "title")
    assert "first 15 of 20 layers" in figure.get_suptitle()
    grid = figure.axes[3]
    assert grid.get_xlabel() == "channel (first 16 of up to 40)"
    assert len(grid.get_images()) == 15 * 16
    assert_legible(figure)
