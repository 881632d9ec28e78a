import chex
import jax
import jax.numpy as jnp
import pytest

from cnn_jax.nn.fused_stage import fused_stage


def test_gradient_of_a_tie_goes_to_the_first_maximum() -> None:
    # With a 1x1 kernel of weight 1, the convolution returns the image.
    image = jnp.asarray([[1.0, 1, 0, 0], [1, 1, 2, 2]])[None, :, :, None]

    @jax.jit
    def total(image: jax.Array) -> jax.Array:
        return fused_stage(
            image, jnp.ones((1, 1, 1, 1)), jnp.zeros(1), (0, 0), jax.nn.relu, "max"
        ).sum()

    expected = jnp.asarray([[1.0, 0, 0, 0], [0, 0, 1, 0]])[None, :, :, None]
    chex.assert_trees_all_equal(jax.grad(total)(image), expected)


@pytest.mark.parametrize("pixel", range(4))
def test_nan_propagates_to_the_output(pixel: int) -> None:
    image = jnp.zeros((1, 2, 2, 1)).at[0, pixel // 2, pixel % 2, 0].set(jnp.nan)
    result = fused_stage(image, jnp.ones((1, 1, 1, 1)), jnp.zeros(1), (0, 0), jax.nn.relu, "max")
    assert jnp.isnan(result).all()
