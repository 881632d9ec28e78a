"""How convolution, activation and pooling are computed: plainly, and as one block on CPUs.

The plain form is a sum, a product or a comparison of shifted and strided views of the image, and
so are its gradients. XLA's own convolution runs two to five times slower inside a compiled loop on
CPUs, and the gradient of its own pooling does not compile on GPUs when deterministic kernels are
asked for.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.conv_block import block_stage
from cnn_jax.shapes import POOL_SIZE, output_size, padding_amounts

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,  # Slope 0.01 below zero.
    "sigmoid": jax.nn.sigmoid,
}


def conv_stage(
    image: Array,
    kernel: Array,
    bias: Array,
    *,
    strides: int,
    padding: str,
    activation: str,
    kind_of_pool: str,
) -> Array:
    """One stage of the network: convolution, bias, activation and pooling.

    Which form computes it is settled when the program is lowered for a platform; their values and
    gradients agree to float32 rounding.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      bias: float32 [O].
      strides: step of the convolution.
      padding: `VALID`, `SAME` or `FULL`.
      activation: a key of `ACTIVATIONS`.
      kind_of_pool: as in `pool`.

    Returns:
      float32 [B, H', W', O].
    """

    def plain(image: Array, kernel: Array, bias: Array) -> Array:
        convolution = convolve(image, kernel, strides=strides, padding=padding)
        return pool(ACTIVATIONS[activation](convolution + bias.reshape(1, 1, 1, -1)), kind_of_pool)

    def block(image: Array, kernel: Array, bias: Array) -> Array:
        pads = padding_amounts(padding, len(kernel))
        return block_stage(image, kernel, bias, pads, ACTIVATIONS[activation])

    if strides != 1 or kind_of_pool != "max":
        return plain(image, kernel, bias)
    result: Array = jax.lax.platform_dependent(image, kernel, bias, cpu=block, default=plain)
    return result


def convolve(image: Array, kernel: Array, *, strides: int, padding: str) -> Array:
    """Slides each filter over the image: a matrix product of patches and filters.

    Like every deep learning library this computes a cross-correlation, that is, the kernel is
    not flipped: out[b, y, x, o] = sum over i, j, c of
    padded[b, y*s + i, x*s + j, c] * kernel[i, j, c, o].

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      strides: s, the step in both directions.
      padding: `VALID`, `SAME` or `FULL`; see `shapes.padding_amounts`.

    Returns:
      float32 [B, H', W', O], H' and W' as in `shapes.output_size`.
    """
    batch, height, width, channels = image.shape
    size, _, _, filters = kernel.shape
    pads = padding_amounts(padding, size)
    padded = jnp.pad(image, ((0, 0), pads, pads, (0, 0)))
    rows = output_size(height, size, pads, strides)
    columns = output_size(width, size, pads, strides)
    # One strided view for each place in the kernel, in the kernel's own order i, j, c.
    views = [
        padded[:, i : i + strides * rows : strides, j : j + strides * columns : strides]
        for i in range(size)
        for j in range(size)
    ]
    patches = jnp.concatenate(views, axis=-1).reshape(-1, size * size * channels)
    # Full float32 on every platform: accelerators would otherwise round the factors.
    product = jnp.matmul(patches, kernel.reshape(-1, filters), precision=jax.lax.Precision.HIGHEST)
    return product.reshape(batch, rows, columns, filters)


def pool(feature_map: Array, kind: str) -> Array:
    """Shrinks a feature map to half its height and width; an odd last row or column is dropped.

    Args:
      feature_map: float32 [B, H, W, C].
      kind: `max` or `avg` over windows of 2x2, or `none` to return the map as it is.

    Returns:
      float32 [B, H // 2, W // 2, C].
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
    top = _first_larger(corners[0], corners[1])
    bottom = _first_larger(corners[2], corners[3])
    return _first_larger(top, bottom)


def _first_larger(first: Array, second: Array) -> Array:
    """The larger of two, the first of equals; a NaN wins.

    `jnp.maximum` would share the gradient of equals, which are frequent on an even background;
    here the first one in reading order gets it all, as in PyTorch.
    """
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
