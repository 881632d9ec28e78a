import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnn_jax.nn import conv
from cnn_jax.nn.pooling import pool
from cnn_jax.nn.shapes import Stage, output_size, padding_amounts
from tests.support.hostile import fraction_of_examples


def convolve_naively(image: np.ndarray, kernel: np.ndarray, strides: int, padding: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Computes the formula of `conv.convolve` for one output position at a time, in float64."""
    size, _, _, filters = kernel.shape
    pads = padding_amounts(padding, size)
    padded = np.pad(image.astype(np.float64), ((0, 0), pads, pads, (0, 0)))
    rows, columns = (output_size(n, size, pads, strides) for n in image.shape[1:3])
    result = np.empty((len(image), rows, columns, filters))
    for y in range(rows):
        for x in range(columns):
            window = padded[:, y * strides : y * strides + size, x * strides : x * strides + size]
            result[:, y, x] = np.einsum("bijc,ijco->bo", window, kernel)
    return result


@settings(max_examples=fraction_of_examples(20))  # Each example compiles a new shape.
@given(
    st.integers(4, 7),
    st.integers(4, 7),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["VALID", "SAME", "FULL"]),
)
def test_convolution_equals_its_formula(
    height: int, width: int, channels: int, kernel_size: int, strides: int, padding: str
) -> None:
    generator = np.random.default_rng(0)
    image = generator.normal(size=(2, height, width, channels)).astype(np.float32)
    kernel = generator.normal(size=(kernel_size, kernel_size, channels, 3)).astype(np.float32)
    result = conv.convolve(
        jnp.asarray(image), jnp.asarray(kernel), strides=strides, padding=padding
    )
    # A sum of at most 4 * 4 * 3 = 48 products of magnitude 1: 48 rounding errors of 6e-8 are less
    # than 1e-5.
    np.testing.assert_allclose(
        result, convolve_naively(image, kernel, strides, padding), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("padding", ["VALID", "SAME", "FULL"])
@pytest.mark.parametrize("strides", [1, 2])
def test_convolution_and_its_gradients_equal_those_of_xla(padding: str, strides: int) -> None:
    generator = np.random.default_rng(0)
    image = jnp.asarray(generator.normal(size=(2, 7, 6, 3)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(3, 3, 3, 4)), jnp.float32)
    by_products = functools.partial(conv.convolve, strides=strides, padding=padding)
    by_xla = functools.partial(conv.convolve_by_xla, strides=strides, padding=padding)

    @jax.jit
    def evaluate_both(image: jax.Array, kernel: jax.Array) -> tuple[Any, ...]:
        expected, expected_gradients = jax.vjp(by_xla, image, kernel)
        result, gradients = jax.vjp(by_products, image, kernel)
        weights = jnp.cos(jnp.arange(expected.size)).reshape(expected.shape)
        return result, expected, gradients(weights), expected_gradients(weights)

    result, expected, gradients, expected_gradients = evaluate_both(image, kernel)
    chex.assert_trees_all_close(result, expected, atol=1e-5)
    chex.assert_trees_all_close(gradients, expected_gradients, atol=3e-5)


@settings(max_examples=fraction_of_examples(30))  # Each example compiles a new shape.
@given(
    st.integers(5, 8),
    st.integers(5, 8),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 2),
    st.sampled_from(["VALID", "SAME", "FULL"]),
    st.sampled_from(sorted(conv.ACTIVATIONS)),
    st.sampled_from(["max", "avg", "none"]),
)
@example(6, 6, 1, 3, 1, "SAME", "relu", "max")  # The two stages of the reference model.
@example(6, 6, 2, 3, 1, "SAME", "relu", "max")
@example(8, 8, 2, 3, 1, "SAME", "relu", "max")  # Four pooled rows: Winograd's F(4, 3).
@example(7, 6, 3, 3, 1, "FULL", "sigmoid", "max")  # The same, with an odd last row.
@example(10, 4, 20, 3, 1, "SAME", "relu", "max")  # The same, with five pooled rows.
@example(11, 5, 20, 3, 1, "SAME", "sigmoid", "avg")
@example(10, 5, 32, 3, 1, "SAME", "relu", "max")  # The columns through F(2, 3) too.
@example(8, 6, 32, 3, 1, "FULL", "sigmoid", "avg")
@example(5, 7, 64, 3, 1, "SAME", "relu", "max")  # Both through F(2, 3).
@example(7, 5, 2, 3, 1, "SAME", "sigmoid", "max")  # A last row and column that no window covers.
@example(6, 7, 2, 3, 1, "FULL", "relu", "max")
@example(5, 6, 2, 4, 1, "VALID", "leaky_relu", "max")
@example(6, 7, 2, 5, 1, "SAME", "relu", "max")  # Winograd's F(2, 5).
@example(9, 8, 3, 5, 1, "VALID", "sigmoid", "avg")
@example(8, 8, 1, 3, 1, "SAME", "relu", "avg")
@example(7, 5, 2, 3, 1, "SAME", "sigmoid", "avg")
@example(6, 7, 2, 3, 1, "FULL", "leaky_relu", "avg")
@example(5, 6, 2, 4, 1, "VALID", "relu", "avg")
@example(8, 8, 2, 3, 1, "SAME", "relu", "none")  # Inside a stage of several convolutions.
@example(7, 5, 3, 3, 1, "VALID", "sigmoid", "none")  # Odd numbers of rows and columns.
@example(6, 7, 2, 3, 1, "FULL", "leaky_relu", "none")
@example(7, 6, 1, 3, 1, "SAME", "relu", "none")  # No transform.
@example(6, 5, 2, 4, 1, "VALID", "sigmoid", "none")
@example(7, 8, 2, 5, 1, "SAME", "relu", "none")
@example(9, 7, 32, 3, 1, "SAME", "leaky_relu", "none")
def test_conv_stage_equals_convolution_activation_and_pooling(
    height: int,
    width: int,
    channels: int,
    kernel_size: int,
    strides: int,
    padding: str,
    activation: str,
    pool_kind: str,
) -> None:
    generator = np.random.default_rng(0)
    shapes = ((3, height, width, channels), (kernel_size, kernel_size, channels, 4), (4,))
    arguments = [jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in shapes]

    options = Stage(kernel_size, strides, padding, activation, pool_kind)

    def stage(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return conv.conv_stage(image, kernel, bias, options)

    def reference(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        convolution = conv.convolve_by_xla(image, kernel, strides=strides, padding=padding)
        activated = conv.ACTIVATIONS[activation](convolution + bias[None, None, None])
        return pool(activated, pool_kind)

    @jax.jit
    def evaluate_both(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        expected, expected_gradients = jax.vjp(reference, *arguments)
        result, gradients = jax.vjp(stage, *arguments)
        weights = jnp.cos(jnp.arange(expected.size)).reshape(expected.shape)
        return result, expected, gradients(weights), expected_gradients(weights)

    result, expected, gradients, expected_gradients = evaluate_both(*arguments)
    # Sums of at most 200 products of magnitude 1, in another order: 200 rounding errors of 6e-8; of
    # more with more channels, five times as many with 20.
    atol = 1.2e-5 * max(1, channels / 4)
    chex.assert_trees_all_close(result, expected, atol=atol, rtol=0)
    chex.assert_trees_all_close(gradients, expected_gradients, atol=atol, rtol=1e-5)


@pytest.mark.parametrize(("platform", "uses_xla"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_accelerators_use_the_convolution_of_xla(platform: str, uses_xla: bool) -> None:
    def stage(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return conv.conv_stage(image, kernel, bias, Stage(3, 1, "SAME", "relu", "max"))

    shapes = ((2, 6, 6, 1), (3, 3, 1, 4), (4,))
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    # Lowering for a platform does not require its hardware.
    exported = jax.export.export(jax.jit(stage), platforms=[platform])(*arguments)
    assert ("stablehlo.convolution" in exported.mlir_module()) == uses_xla


def feature_map_of(values: list[list[float]]) -> jax.Array:
    """Returns the rows of one channel as a feature map, float32 [1, H, W, 1]."""
    return jnp.asarray(values, jnp.float32)[None, :, :, None]


def test_max_pooling_takes_the_largest_of_each_window() -> None:
    pooled = pool(feature_map_of([[1, 2, 5, 6], [3, 4, 7, 8], [9, 8, 1, 0], [7, 6, 0, 1]]), "max")
    chex.assert_trees_all_equal(pooled, feature_map_of([[4, 8], [9, 1]]))


def test_average_pooling_takes_the_mean_of_each_window() -> None:
    pooled = pool(feature_map_of([[1, 2, 5, 6], [3, 4, 7, 8]]), "avg")
    chex.assert_trees_all_equal(pooled, feature_map_of([[2.5, 6.5]]))


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_an_odd_last_row_and_column_are_dropped(kind: str) -> None:
    feature_map = feature_map_of([[1, 1, 9], [1, 1, 9], [9, 9, 9]])
    chex.assert_trees_all_equal(pool(feature_map, kind), feature_map_of([[1]]))


def test_pooling_of_kind_none_returns_its_input() -> None:
    feature_map = feature_map_of([[1, 2, 3]])
    assert pool(feature_map, "none") is feature_map


def test_gradient_of_a_tie_goes_to_the_first_maximum() -> None:
    # In the left window all four values are equal, in the right one the two of the lower row.
    feature_map = feature_map_of([[1, 1, 0, 0], [1, 1, 2, 2]])
    gradient = jax.grad(lambda x: pool(x, "max").sum())(feature_map)
    chex.assert_trees_all_equal(gradient, feature_map_of([[1, 0, 0, 0], [0, 0, 1, 0]]))


@pytest.mark.parametrize("pixel", range(4))
def test_nan_propagates_through_max_pooling(pixel: int) -> None:
    feature_map = jnp.zeros((1, 2, 2, 1)).at[0, pixel // 2, pixel % 2, 0].set(jnp.nan)
    assert jnp.isnan(pool(feature_map, "max")).all()


@pytest.mark.parametrize(
    ("name", "at_minus_2", "at_3"),
    [
        ("relu", 0.0, 3.0),
        ("leaky_relu", -0.02, 3.0),  # Slope 0.01.
        ("sigmoid", 1 / (1 + np.exp(2.0)), 1 / (1 + np.exp(-3.0))),
    ],
)
def test_activations_at_known_values(name: str, at_minus_2: float, at_3: float) -> None:
    values = conv.ACTIVATIONS[name](jnp.asarray([-2.0, 3.0]))
    np.testing.assert_allclose(values, [at_minus_2, at_3], rtol=1e-6)


def test_unknown_kind_of_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="'mean' is invalid: it must be max, avg or none"):
        pool(jnp.zeros((1, 4, 4, 1)), "mean")
