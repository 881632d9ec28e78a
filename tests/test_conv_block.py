import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnn_jax import conv
from cnn_jax.conv_block import block_stage
from cnn_jax.shapes import padding_amounts


@settings(max_examples=8, deadline=None, derandomize=True)  # Each new shape is compiled.
@given(
    st.integers(5, 8),
    st.integers(5, 8),
    st.integers(1, 4),
    st.sampled_from(["VALID", "SAME", "FULL"]),
    st.sampled_from(sorted(conv.ACTIVATIONS)),
)
@example(8, 8, 3, "SAME", "relu")  # The reference's own kind of stage.
@example(7, 5, 3, "SAME", "sigmoid")  # Odd sizes: a last row and column that no window covers.
@example(5, 6, 4, "VALID", "leaky_relu")
def test_the_block_is_the_plain_form(
    height: int, width: int, kernel_size: int, padding: str, activation: str
) -> None:
    generator = np.random.default_rng(0)
    image = jnp.asarray(generator.normal(size=(3, height, width, 2)), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=(kernel_size, kernel_size, 2, 4)), jnp.float32)
    bias = jnp.asarray(generator.normal(size=4), jnp.float32)

    def plain(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        convolution = conv.convolve(image, kernel, strides=1, padding=padding)
        return conv.pool(conv.ACTIVATIONS[activation](convolution + bias[None, None, None]), "max")

    def block(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        pads = padding_amounts(padding, kernel_size)
        return block_stage(image, kernel, bias, pads, conv.ACTIVATIONS[activation])

    @jax.jit
    def both(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        expected, expected_gradients = jax.vjp(plain, *arguments)
        result, gradients = jax.vjp(block, *arguments)
        weights = jnp.cos(jnp.arange(expected.size)).reshape(expected.shape)
        return result, expected, gradients(weights), expected_gradients(weights)

    result, expected, gradients, expected_gradients = both(image, kernel, bias)
    # Sums of at most 200 products of size 1, in another order: 200 roundings of 6e-8.
    chex.assert_trees_all_close(result, expected, atol=1.2e-5, rtol=0)
    chex.assert_trees_all_close(gradients, expected_gradients, atol=1.2e-5, rtol=1e-5)


def test_the_gradient_of_equals_goes_to_the_first_of_them() -> None:
    # A kernel of one pixel and one weight: the convolution is the image.
    image = jnp.asarray([[1.0, 1, 0, 0], [1, 1, 2, 2]])[None, :, :, None]

    def total(image: jax.Array) -> jax.Array:
        return block_stage(image, jnp.ones((1, 1, 1, 1)), jnp.zeros(1), (0, 0), jax.nn.relu).sum()

    expected = jnp.asarray([[1.0, 0, 0, 0], [0, 0, 1, 0]])[None, :, :, None]
    chex.assert_trees_all_equal(jax.grad(total)(image), expected)


@pytest.mark.parametrize("place", range(4))
def test_a_nan_is_not_lost(place: int) -> None:
    image = jnp.zeros((1, 2, 2, 1)).at[0, place // 2, place % 2, 0].set(jnp.nan)
    result = block_stage(image, jnp.ones((1, 1, 1, 1)), jnp.zeros(1), (0, 0), jax.nn.relu)
    assert jnp.isnan(result).all()
