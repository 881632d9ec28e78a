"""How convolution, activation and pooling are computed on each platform.

Accelerators get XLA's own convolution. It runs two to five times slower inside a compiled loop on
CPUs, which get matrix products instead: of the whole stage as one block (`conv_block.py`) or, for
unusual strides and poolings, of the convolution alone. Pooling is written out as comparisons of
strided views, since the gradient of XLA's own does not compile on GPUs when deterministic kernels
are asked for.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn.fused_conv_pool import first_larger, fused_conv_pool
from cnn_jax.nn.shapes import POOL_SIZE, output_size, padding_amounts

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

    pads = padding_amounts(padding, len(kernel))

    def stage(convolve: Callable[..., Array], image: Array, kernel: Array, bias: Array) -> Array:
        convolution = convolve(image, kernel, strides=strides, padding=padding)
        return pool(ACTIVATIONS[activation](convolution + bias.reshape(1, 1, 1, -1)), kind_of_pool)

    def block(image: Array, kernel: Array, bias: Array) -> Array:
        return fused_conv_pool(image, kernel, bias, pads, ACTIVATIONS[activation])

    usual = strides == 1 and kind_of_pool == "max"
    on_cpu = block if usual else functools.partial(stage, convolve)
    result: Array = jax.lax.platform_dependent(
        image, kernel, bias, cpu=on_cpu, default=functools.partial(stage, convolve_by_xla)
    )
    return result


def convolve_by_xla(image: Array, kernel: Array, *, strides: int, padding: str) -> Array:
    """The same as `convolve`, by XLA's own operation."""
    pads = padding_amounts(padding, len(kernel))
    return jax.lax.conv_general_dilated(
        image,
        kernel,
        window_strides=(strides, strides),
        padding=(pads, pads),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )


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
    top, _ = first_larger(corners[0], corners[1])
    bottom, _ = first_larger(corners[2], corners[3])
    return first_larger(top, bottom)[0]
