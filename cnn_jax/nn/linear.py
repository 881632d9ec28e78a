"""The fully connected layer."""

import math

import jax
import jax.numpy as jnp
from jax import Array


def linear(feature_map: Array, kernel: Array, bias: Array) -> Array:
    """Flattens a feature map and applies a fully connected layer: values @ kernel + bias.

    Args:
      feature_map: float32 [B, H, W, C].
      kernel: float32 [H * W * C, K]. Its rows are in the order h, w, c.
      bias: float32 [K].

    Returns:
      float32 [B, K].
    """
    batch, *shape = feature_map.shape
    inputs, outputs = math.prod(shape), len(bias)
    # The batch is the last axis here, as it is inside the fused stages on CPUs. With so few outputs
    # this product is four times as fast as one with the batch first. The barrier keeps XLA from
    # transposing it back.
    weights = kernel.reshape(*shape, outputs).transpose(3, 2, 0, 1)  # [K, C, H, W]
    values = feature_map.transpose(3, 1, 2, 0).reshape(inputs, batch)  # [C * H * W, B]
    product = jnp.matmul(
        weights.reshape(outputs, inputs), values, precision=jax.lax.Precision.HIGHEST
    )
    return jax.lax.optimization_barrier(product + bias[:, None]).T
