"""Feature maps and saliency, against formulas, finite differences and receptive fields."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cnn_jax.evaluation import interpret
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.model import layers_of
from cnn_jax.nn.layer_table import Layer
from tests.support.random_models import random_model


def random_images(trained: TrainedModel, count: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, *trained.image_shape), dtype=np.uint8)


@pytest.mark.parametrize(
    "model",
    [
        {"pool": "none", "activation": "leaky_relu", "features": (4,)},
        {"pool": "avg", "activation": "sigmoid", "strides": 2, "padding": "FULL"},
        {"stage_sizes": (2, 1)},
    ],
)
def test_every_layer_has_a_feature_map_of_its_shape(model: dict[str, Any]) -> None:
    trained = random_model((12, 10, 3), **model)
    image_u8 = random_images(trained)
    maps = interpret.feature_maps(trained.model, trained.params, image_u8)
    _, *layers = layers_of(trained.model, trained.image_shape)
    assert list(maps) == [layer.name for layer in layers]
    for layer in layers:
        assert maps[layer.name].shape == (2, *layer.output_shape)
    np.testing.assert_allclose(maps["linear_1"], trained.logits(image_u8), rtol=1e-4, atol=1e-5)


def test_feature_maps_follow_from_each_other_by_the_formulas() -> None:
    trained = random_model((6, 6, 1), features=(2,), padding="VALID")
    bias = np.array([0.1, -0.1], np.float32)
    trained.params["conv_1"]["bias"] = bias
    image_u8 = random_images(trained, 1)
    maps = interpret.feature_maps(trained.model, trained.params, image_u8)
    # The value at row 1, column 2 of each channel: the sum of weight x pixel, plus the bias.
    pixels = image_u8[0, 1:4, 2:5, :, np.newaxis] / 255
    expected = (pixels * trained.params["conv_1"]["kernel"]).sum((0, 1, 2)) + bias
    np.testing.assert_allclose(maps["conv_1"][0, 1, 2], expected, rtol=1e-5)
    np.testing.assert_array_equal(maps["relu_1"], np.maximum(maps["conv_1"], 0))
    pooled = maps["relu_1"].reshape(1, 2, 2, 2, 2, 2).max((2, 4))
    np.testing.assert_allclose(maps["pool_1"], pooled, rtol=1e-5, atol=1e-6)


def test_saliency_is_the_slope_of_the_largest_logit() -> None:
    # The model is smooth everywhere, so a finite difference approximates the slope.
    trained = random_model((6, 6, 1), pool="avg", activation="sigmoid", features=(3,))
    image_u8 = random_images(trained)
    image_u8[:, 2, 3] = 100
    gradient = interpret.saliency(trained.model, trained.params, image_u8)
    assert gradient.shape == (2, 6, 6)
    assert (gradient >= 0).all()
    up, down = image_u8.copy(), image_u8.copy()
    up[:, 2, 3] += 20
    down[:, 2, 3] -= 20
    prediction = trained.logits(image_u8).argmax(1)
    rise = trained.logits(up) - trained.logits(down)
    slope = np.abs(rise[range(2), prediction]) / (40 / 255)  # Intensity is 0..1.
    np.testing.assert_allclose(gradient[:, 2, 3], slope, rtol=0.02)


def test_saliency_of_rgb_images_is_the_largest_over_the_channels() -> None:
    # A 1x1 filter with the weights 1, -3 and 2, a bias that keeps ReLU linear, and linear weights
    # of the largest logit, class 0, of 5 at one pixel and 1 at the others: |-3| * 5 and |-3| * 1.
    trained = random_model((2, 2, 3), "abc", features=(1,), kernel_size=1, pool="none")
    trained.params["conv_1"] = {
        "kernel": np.array([1, -3, 2], np.float32).reshape(1, 1, 3, 1),
        "bias": np.array([10], np.float32),
    }
    weights = np.array([[1, 0, 0], [1, 0, 0], [5, 0, 0], [1, 0, 0]], np.float32)
    trained.params["linear_1"] = {"kernel": weights, "bias": np.zeros(3, np.float32)}
    gradient = interpret.saliency(trained.model, trained.params, random_images(trained, 1))
    np.testing.assert_allclose(gradient[0], [[3, 3], [15, 3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("image_shape", "model"),
    [
        ((28, 28, 1), {}),
        ((25, 19, 3), {"kernel_size": 4, "padding": "FULL"}),
        ((17, 17, 1), {"kernel_size": 5, "padding": "VALID", "pool": "none", "strides": 2}),
        ((30, 30, 1), {"kernel_size": 1, "strides": 3}),
        ((26, 23, 1), {"stage_sizes": (1, 2), "strides": 2}),
    ],
)
def test_receptive_field_is_where_the_gradient_is_not_zero(
    image_shape: tuple[int, int, int], model: dict[str, Any]
) -> None:
    # With average pooling, a smooth activation and positive weights no gradient is zero by chance.
    smooth = {"features": (1, 1), "pool": "avg", "activation": "sigmoid"}
    trained = random_model(image_shape, **smooth | model)
    params = jax.tree.map(lambda array: np.abs(array) + 0.01, trained.params)
    _, *layers, _ = layers_of(trained.model, image_shape)

    def values_at_units(image: Array) -> dict[str, Array]:
        _, variables = trained.model.apply(
            {"params": params}, image, capture_intermediates=True, mutable=["intermediates"]
        )
        kinds = {"conv": "convolution", "sigmoid": "activation", "pool": "__call__"}
        values = {}
        for layer in layers:
            kind, stage = layer.name.split("_")
            maps = variables["intermediates"][f"conv_{stage}"][kinds[kind]][0][0, ..., 0]
            values[layer.name] = jnp.stack([maps[unit] for unit in _units(layer)])
        return values

    image = jax.random.uniform(jax.random.key(1), (1, *image_shape))
    gradients = jax.jit(jax.jacrev(values_at_units))(image)
    for layer in layers:
        for unit, gradient in zip(_units(layer), gradients[layer.name], strict=True):
            depends: Any = np.asarray(gradient[0] != 0).any(axis=-1)
            rows, columns = layer.receptive_field_at(*unit)
            assert (len(rows), len(columns)) == layer.receptive_field
            if trained.model.strides > trained.model.kernel_size:  # Strides skip pixels in between.
                depends = np.logical_and.outer(_span(depends.any(1)), _span(depends.any(0)))
            expected = np.zeros(image_shape[:2], bool)
            expected[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop] = True
            np.testing.assert_array_equal(depends, expected, err_msg=f"{layer.name} {unit}")


def _units(layer: Layer) -> list[tuple[int, int]]:
    """Returns (row, column) of the two units that are tested: a corner and the middle."""
    return [(0, 0), (layer.output_shape[0] // 2, layer.output_shape[1] // 2)]


def _span(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns a mask that is True from the first to the last True element of a 1-D mask."""
    return np.logical_or.accumulate(mask) & np.logical_or.accumulate(mask[::-1])[::-1]
