"""Pooling over windows of 2x2 values."""

import jax.numpy as jnp
from jax import Array

from cnn_jax.nn.shapes import POOL_SIZE


def pool(feature_map: Array, kind: str) -> Array:
    """Halves the height and width of a feature map, by the maximum or mean of each 2x2 window.

    An odd last row or column is dropped.

    Args:
      feature_map: float32 [B, H, W, C].
      kind: `max` or `avg`, or `none`, which returns the map unchanged.

    Returns:
      float32 [B, H // 2, W // 2, C], or `feature_map` itself for `none`.

    Raises:
      ValueError: for any other kind.
    """
    if kind == "none":
        return feature_map
    height, width = (size // POOL_SIZE * POOL_SIZE for size in feature_map.shape[1:3])
    corners = [
        feature_map[:, i:height:POOL_SIZE, j:width:POOL_SIZE]
        for i in range(POOL_SIZE)
        for j in range(POOL_SIZE)
    ]
    if kind == "avg":
        return sum(corners[1:], corners[0]) / len(corners)
    if kind != "max":
        raise ValueError(f"kind={kind!r} is invalid: it must be max, avg or none.")
    top, _ = first_maximum(corners[0], corners[1])
    bottom, _ = first_maximum(corners[2], corners[3])
    return first_maximum(top, bottom)[0]


def first_maximum(first: Array, second: Array) -> tuple[Array, Array]:
    """Returns the elementwise maximum of two arrays, and where the second one provides it.

    Of equal values the first one is the maximum, and gets the whole gradient, as in PyTorch.
    `jnp.maximum` would split the gradient between equal values, which are frequent on an even
    background. A NaN in either array is the maximum.

    Args:
      first: array of any shape.
      second: array of the same shape and dtype.

    Returns:
      The maximum, and a bool array that is true where it is the value of `second`.
    """
    is_second = ~((first >= second) | jnp.isnan(first))
    return jnp.where(is_second, second, first), is_second
