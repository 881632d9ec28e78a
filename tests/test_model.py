import functools
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import model
from cnn_jax.model import ConvNet
from cnn_jax.nn import conv
from cnn_jax.nn.linear import linear
from cnn_jax.nn.pooling import pool
from tests.support import numpy_reference


@functools.cache  # Compiling it takes a second.
def init(convnet: ConvNet, shape: tuple[int, ...] = (1, 28, 28, 1)) -> Any:
    """Returns the initial parameters of a model, from a fixed key."""
    return jax.jit(convnet.init)(jax.random.key(0), jnp.zeros(shape))["params"]


def test_reference_parameters_have_the_shapes_of_the_tutorial() -> None:
    chex.assert_trees_all_equal_shapes_and_dtypes(
        init(ConvNet()),
        {
            "conv_1": {"kernel": jnp.zeros((3, 3, 1, 8)), "bias": jnp.zeros(8)},
            "conv_2": {"kernel": jnp.zeros((3, 3, 8, 16)), "bias": jnp.zeros(16)},
            "linear_1": {"kernel": jnp.zeros((784, 10)), "bias": jnp.zeros(10)},
        },
    )


def test_reference_model_has_9098_parameters() -> None:
    # (3*3*1*8 + 8) + (3*3*8*16 + 16) + (7*7*16*10 + 10) = 80 + 1,168 + 7,850.
    assert sum(leaf.size for leaf in jax.tree.leaves(init(ConvNet()))) == 9098


def test_initial_weights_are_normal_and_biases_zero() -> None:
    params = init(ConvNet(init_stddev=0.5))
    kernel = params["linear_1"]["kernel"]
    # Of 7,840 draws, the standard deviation has a standard error of 0.5 / sqrt(2 * 7840) = 0.004,
    # the mean one of 0.5 / sqrt(7840) = 0.006. One key in 16,000 deviates by four standard errors.
    assert abs(float(kernel.std()) - 0.5) < 4 * 0.004
    assert abs(float(kernel.mean())) < 4 * 0.006
    for layer in params.values():
        chex.assert_trees_all_equal(layer["bias"], jnp.zeros_like(layer["bias"]))


def test_init_stddev_zero_selects_he_initialization() -> None:
    params = init(ConvNet(features=(64, 64), init_stddev=0.0))
    # A filter has 3 * 3 * 64 = 576 inputs, a logit 7 * 7 * 64 = 3,136. The standard deviation of n
    # draws has a relative standard error of 1 / sqrt(2 n): 0.4 % of 36,864 and of 31,360 draws. The
    # tolerance is four standard errors.
    for layer, inputs in (("conv_2", 576), ("linear_1", 3136)):
        expected = np.sqrt(2 / inputs)
        assert float(params[layer]["kernel"].std()) == pytest.approx(expected, rel=4 * 0.004)


MODEL_OPTIONS = list(
    itertools.product(
        [(4,), (2, 3, 4)],
        ["VALID", "SAME", "FULL"],
        [1, 2],
        ["max", "avg", "none"],
        ["relu", "leaky_relu", "sigmoid"],
    )
)


@pytest.mark.parametrize(("features", "padding", "strides", "pool", "activation"), MODEL_OPTIONS)
def test_shapes_of_all_options_follow_the_arithmetic(
    features: tuple[int, ...], padding: str, strides: int, pool: str, activation: str
) -> None:
    options = {
        "features": features,
        "kernel_size": 3,
        "strides": strides,
        "padding": padding,
        "activation": activation,
        "pool": pool,
    }
    image = jax.ShapeDtypeStruct((5, 100, 92, 3), jnp.float32)
    convnet = ConvNet(num_classes=7, **options)  # type: ignore[arg-type]

    def apply(image: jax.Array) -> Any:
        return convnet.apply(
            {},
            image,
            rngs={"params": jax.random.key(0)},
            mutable=["params", "intermediates"],
            capture_intermediates=True,
        )

    logits, variables = jax.eval_shape(apply, image)  # Computes only shapes.
    maps, params = variables["intermediates"], variables["params"]
    chex.assert_shape(logits, (5, 7))
    chex.assert_type(logits, jnp.float32)
    layers = {layer.name: layer for layer in model.layers_of(convnet, (100, 92, 3))}
    for stage in range(1, len(features) + 1):
        stage_maps = maps[f"conv_{stage}"]
        convolution = layers[f"conv_{stage}"].output_shape
        output = layers.get(f"pool_{stage}", layers[f"conv_{stage}"]).output_shape
        chex.assert_shape(stage_maps["convolution"][0], (5, *convolution))
        chex.assert_shape(stage_maps["activation"][0], (5, *convolution))
        chex.assert_shape(stage_maps["__call__"][0], (5, *output))
    for name, layer_params in params.items():
        assert layer_params["kernel"].shape == layers[name].kernel_shape
        assert layer_params["bias"].shape == layers[name].kernel_shape[-1:]
        count = sum(leaf.size for leaf in jax.tree.leaves(layer_params))
        assert count == layers[name].num_parameters
    assert set(params) == {name for name, layer in layers.items() if layer.kernel_shape}


def test_logits_match_the_numpy_reference() -> None:
    params = init(ConvNet(init_stddev=0.3))
    image_u8 = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), dtype=np.uint8)
    logits = ConvNet().apply({"params": params}, model.normalize(jnp.asarray(image_u8)))
    # The reference returns losses, not logits: for label k, logsumexp(logits) - logits[k].
    params_float64 = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for example, row in enumerate(np.asarray(logits, np.float64)):
        for label in range(10):
            loss, _ = numpy_reference.loss_and_gradients(
                params_float64, image_u8[example : example + 1], np.array([label])
            )
            assert np.log(np.exp(row - row.max()).sum()) + row.max() - row[label] == pytest.approx(
                loss, abs=1e-4
            )


@pytest.mark.parametrize(
    ("stage_sizes", "padding", "zeros", "strides"),
    [
        *[((2, 1), "SAME", 1, 1), ((2, 1), "VALID", 0, 2), ((2, 1), "FULL", 2, 1)],
        *[((1, 2), "SAME", 1, 2), ((1, 2), "VALID", 0, 1), ((1, 2), "FULL", 2, 2)],
    ],
)
def test_stages_of_several_convolutions_match_the_numpy_reference(
    stage_sizes: tuple[int, ...], padding: str, zeros: int, strides: int
) -> None:
    convnet = ConvNet(
        features=(3, 4), stage_sizes=stage_sizes, padding=padding, strides=strides, init_stddev=0.0
    )
    generator = np.random.default_rng(0)
    # Biases as well: with zeros, a value that sees only zeros would lie on the kink of ReLU.
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf + 0.1 * generator.normal(size=leaf.shape), np.float64),
        init(convnet, (1, 40, 38, 2)),
    )
    assert sorted(params) == ["conv_1", "conv_2", "conv_3", "linear_1"]
    image, weights = generator.random((2, 40, 38, 2)), generator.normal(size=(2, 10))
    direction = jax.tree.map(lambda leaf: 0.1 * generator.normal(size=leaf.shape), params)

    @jax.jit
    def evaluate(params: Any, image: jax.Array) -> Any:
        logits, vjp = jax.vjp(lambda p: convnet.apply({"params": p}, image), params)
        return logits, vjp(jnp.asarray(weights, jnp.float32))[0]

    def reference(distance: float) -> np.ndarray:
        moved = jax.tree.map(lambda p, d: p + distance * d, params, direction)
        return numpy_reference.logits(moved, image, stage_sizes, strides, zeros)

    logits, gradients = evaluate(*jax.tree.map(np.float32, (params, image)))
    # Some hundred roundings of 6e-8, of values below 10.
    np.testing.assert_allclose(logits, reference(0.0), atol=1e-4)
    # The slope of sum(weights * logits) along the direction, by a central difference in float64.
    slope = (weights * (reference(1e-6) - reference(-1e-6))).sum() / 2e-6
    products = jax.tree.map(np.vdot, gradients, direction)
    assert sum(jax.tree.leaves(products)) == pytest.approx(slope, rel=1e-4)


def test_captured_intermediates_are_the_computed_feature_maps() -> None:
    params = init(ConvNet())
    image = jnp.ones((2, 28, 28, 1))
    logits, captured = ConvNet().apply({"params": params}, image, capture_intermediates=True)
    maps = captured["intermediates"]
    # Each map follows from the one before, to the bit, and the logits from the last.
    feature_map = image
    for name in ("conv_1", "conv_2"):
        (convolution,), (activation,) = maps[name]["convolution"], maps[name]["activation"]
        kernel, bias = params[name]["kernel"], params[name]["bias"].reshape(1, 1, 1, -1)
        products = conv.convolve(feature_map, kernel, strides=1, padding="SAME")
        chex.assert_trees_all_equal(convolution, products + bias)
        chex.assert_trees_all_equal(activation, jnp.maximum(convolution, 0))
        (feature_map,) = maps[name]["__call__"]
        chex.assert_trees_all_equal(feature_map, pool(activation, "max"))
    chex.assert_trees_all_equal(logits, linear(feature_map, **params["linear_1"]))
    # Without intermediates the same is computed in another order.
    plain = ConvNet().apply({"params": params}, image)
    chex.assert_trees_all_close(logits, plain, rtol=1e-5, atol=1e-8)


def test_probabilities_are_the_softmax_without_overflow() -> None:
    # softmax(0, ln 3) = 1 / 4, 3 / 4; logits of 1000 would overflow exp.
    logits = jnp.asarray([[0.0, np.log(3.0)], [1000.0, 1000.0]])
    np.testing.assert_allclose(model.probabilities(logits), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)


def test_normalize_scales_bytes_to_the_unit_interval() -> None:
    image = model.normalize(jnp.asarray([[0, 51, 255]], jnp.uint8))
    chex.assert_trees_all_close(image, jnp.asarray([[0.0, 0.2, 1.0]]), rtol=1e-7)


def test_normalize_refuses_images_that_are_scaled_already() -> None:
    with pytest.raises(
        TypeError, match=r"image dtype float32 is invalid: it must be uint8, 0\.\.255"
    ):
        model.normalize(jnp.zeros((1, 28, 28, 1)))
