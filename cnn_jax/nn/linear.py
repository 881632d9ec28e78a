"""The fully connected layer, in the form that is fast on CPUs."""

import math

import jax
import jax.numpy as jnp
from jax import Array


def linear(feature_map: Array, kernel: Array, bias: Array) -> Array:
    """Multiplies every value of a feature map by a weight for each output, and adds up.

    Args:
      feature_map: float32 [B, H, W, C].
      kernel: float32 [H * W * C, K]; rows in the order h, w, c.
      bias: float32 [K].

    Returns:
      float32 [B, K].
    """
    batch, *shape = feature_map.shape
    inputs, outputs = math.prod(shape), len(bias)
    # The batch last, as the stages leave it on CPUs, where this product with so few outputs is four
    # times as fast as the usual one; the barrier keeps XLA from turning it round again.
    weights = kernel.reshape(*shape, outputs).transpose(3, 2, 0, 1)
    values = feature_map.transpose(3, 1, 2, 0).reshape(inputs, batch)
    product = jnp.matmul(
        weights.reshape(outputs, inputs), values, precision=jax.lax.Precision.HIGHEST
    )
    result: Array = jax.lax.optimization_barrier(product + bias[:, None])
    return result.T
