from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from cnn_jax.evaluation import interpret
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.model import layers_of
from cnn_jax.nn.shapes import Layer
from tests.support.networks import random_network


def random_images(network: TrainedModel, count: int = 2) -> np.ndarray[Any, np.dtype[np.uint8]]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, *network.image_shape), dtype=np.uint8)


@pytest.mark.parametrize(
    "model",
    [
        {"pool": "none", "activation": "leaky_relu", "features": (4,)},
        {"pool": "avg", "activation": "sigmoid", "strides": 2, "padding": "FULL"},
    ],
)
def test_every_layer_of_the_table_has_its_map(model: dict[str, Any]) -> None:
    network = random_network((12, 10, 3), **model)
    image_u8 = random_images(network)
    maps = interpret.feature_maps(network.model, network.params, image_u8)
    _, *layers = layers_of(network.model, network.image_shape)
    assert list(maps) == [layer.name for layer in layers]
    for layer in layers:
        assert maps[layer.name].shape == (2, *layer.output_shape)
    np.testing.assert_allclose(maps["linear_1"], network.logits(image_u8), rtol=1e-4, atol=1e-5)


def test_maps_are_what_the_layers_make_of_each_other() -> None:
    network = random_network((6, 6, 1), features=(2,), padding="VALID")
    bias = np.array([0.1, -0.1], np.float32)
    network.params["conv_1"]["bias"] = bias
    image_u8 = random_images(network, 1)
    maps = interpret.feature_maps(network.model, network.params, image_u8)
    # The value at row 1, column 2 of each channel: the sum of weight x pixel, plus the bias.
    pixels = image_u8[0, 1:4, 2:5, :, np.newaxis] / 255
    expected = (pixels * network.params["conv_1"]["kernel"]).sum((0, 1, 2)) + bias
    np.testing.assert_allclose(maps["conv_1"][0, 1, 2], expected, rtol=1e-5)
    np.testing.assert_array_equal(maps["relu_1"], np.maximum(maps["conv_1"], 0))
    pooled = maps["relu_1"].reshape(1, 2, 2, 2, 2, 2).max((2, 4))
    np.testing.assert_allclose(maps["pool_1"], pooled, rtol=1e-5, atol=1e-6)


def test_saliency_is_the_slope_of_the_winning_logit() -> None:
    # Smooth everywhere, so that a difference tells the slope.
    network = random_network((6, 6, 1), pool="avg", activation="sigmoid", features=(3,))
    image_u8 = random_images(network)
    image_u8[:, 2, 3] = 100
    found = interpret.saliency(network.model, network.params, image_u8)
    assert found.shape == (2, 6, 6)
    assert (found >= 0).all()
    up, down = image_u8.copy(), image_u8.copy()
    up[:, 2, 3] += 20
    down[:, 2, 3] -= 20
    winner = network.logits(image_u8).argmax(1)
    rise = network.logits(up) - network.logits(down)
    slope = np.abs(rise[range(2), winner]) / (40 / 255)  # Intensity is 0..1.
    np.testing.assert_allclose(found[:, 2, 3], slope, rtol=0.02)


def test_saliency_of_colours_is_the_largest_of_them() -> None:
    # A 1x1 filter with the weights 1, -3 and 2, a network that is linear for bright images, and
    # a pixel that counts 5 times as much as all others for the winner, class 0.
    network = random_network((2, 2, 3), "abc", features=(1,), kernel_size=1, pool="none")
    network.params["conv_1"] = {
        "kernel": np.array([1, -3, 2], np.float32).reshape(1, 1, 3, 1),
        "bias": np.array([10], np.float32),
    }
    weights = np.array([[1, 0, 0], [1, 0, 0], [5, 0, 0], [1, 0, 0]], np.float32)
    network.params["linear_1"] = {"kernel": weights, "bias": np.zeros(3, np.float32)}
    found = interpret.saliency(network.model, network.params, random_images(network, 1))
    np.testing.assert_allclose(found[0], [[3, 3], [15, 3]], rtol=1e-5)


@pytest.mark.parametrize(
    ("image_shape", "model"),
    [
        ((28, 28, 1), {}),
        ((25, 19, 3), {"kernel_size": 4, "padding": "FULL"}),
        ((17, 17, 1), {"kernel_size": 5, "padding": "VALID", "pool": "none", "strides": 2}),
        ((30, 30, 1), {"kernel_size": 1, "strides": 3}),
    ],
)
def test_receptive_fields_are_where_the_gradient_is_not_zero(
    image_shape: tuple[int, int, int], model: dict[str, Any]
) -> None:
    # Average pooling, a smooth activation and weights above zero let every pixel's part through.
    smooth = {"features": (1, 1), "pool": "avg", "activation": "sigmoid"}
    network = random_network(image_shape, **smooth | model)
    params = jax.tree.map(lambda array: np.abs(array) + 0.01, network.params)
    _, *layers, _ = layers_of(network.model, image_shape)

    def corners_and_middles(image: Array) -> dict[str, Array]:
        _, seen = network.model.apply(
            {"params": params}, image, capture_intermediates=True, mutable=["intermediates"]
        )
        kinds = {"conv": "convolution", "sigmoid": "activation", "pool": "__call__"}
        values = {}
        for layer in layers:
            kind, stage = layer.name.split("_")
            maps = seen["intermediates"][f"conv_{stage}"][kinds[kind]][0][0, ..., 0]
            values[layer.name] = jnp.stack([maps[place] for place in _places(layer)])
        return values

    image = jax.random.uniform(jax.random.key(1), (1, *image_shape))
    gradients = jax.jit(jax.jacrev(corners_and_middles))(image)
    for layer in layers:
        for place, gradient in zip(_places(layer), gradients[layer.name], strict=True):
            seen: Any = np.asarray(gradient[0] != 0).any(axis=-1)
            rows, columns = layer.field_of(*place)
            assert (len(rows), len(columns)) == layer.receptive_field
            if network.model.strides > network.model.kernel_size:  # Between pixels some are unseen.
                seen = np.logical_and.outer(_span(seen.any(1)), _span(seen.any(0)))
            expected = np.zeros(image_shape[:2], bool)
            expected[max(0, rows.start) : rows.stop, max(0, columns.start) : columns.stop] = True
            np.testing.assert_array_equal(seen, expected, err_msg=f"{layer.name} {place}")


def _places(layer: Layer) -> list[tuple[int, int]]:
    """Of the values that are looked at: a corner's and the one in the middle."""
    return [(0, 0), (layer.output_shape[0] // 2, layer.output_shape[1] // 2)]


def _span(seen: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """From the first one that is true to the last one."""
    return np.logical_or.accumulate(seen) & np.logical_or.accumulate(seen[::-1])[::-1]
