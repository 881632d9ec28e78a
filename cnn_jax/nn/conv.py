"""Convolution, and a stage of the model: convolution, bias, activation and pooling.

`convolve` and `pooling.pool` are the definition, in a few operations on arrays: read them first.
`conv_stage` computes the same in the form that is fast on the platform at hand:

- Accelerators: XLA's own convolution (`convolve_by_xla`).
- CPUs, at stride 1, as in the reference model: one product gives the four outputs of every pooling
  window (`fused_stage.py`). XLA's own convolution is two to five times slower there, inside a
  compiled training loop (`benchmarks/README.md`).
- CPUs otherwise: `convolve` and `pool` themselves.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn.fused_stage import fused_stage
from cnn_jax.nn.pooling import pool
from cnn_jax.nn.shapes import Stage, output_size, padding_amounts

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,  # Slope 0.01 below zero.
    "sigmoid": jax.nn.sigmoid,
}


def convolve(image: Array, kernel: Array, *, strides: int, padding: str) -> Array:
    """Slides every filter over the image, as one matrix product of patches and filters.

    Like every deep learning library this computes a cross-correlation: the kernel is not flipped.

        out[b, y, x, o] = sum over i, j, c of padded[b, y*s + i, x*s + j, c] * kernel[i, j, c, o]

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      strides: s, the step in both directions.
      padding: `VALID`, `SAME` or `FULL`, defined in `shapes.padding_amounts`.

    Returns:
      float32 [B, H', W', O], where H' and W' follow from `shapes.output_size`.
    """
    batch, height, width, channels = image.shape
    size, _, _, filters = kernel.shape
    pads = padding_amounts(padding, size)
    padded = jnp.pad(image, ((0, 0), pads, pads, (0, 0)))
    rows = output_size(height, size, pads, strides)
    columns = output_size(width, size, pads, strides)
    # One strided view of the image per kernel position, in the kernel's memory order i, j, c.
    views = [
        padded[:, i : i + strides * rows : strides, j : j + strides * columns : strides]
        for i in range(size)
        for j in range(size)
    ]
    patches = jnp.concatenate(views, axis=-1).reshape(-1, size * size * channels)
    # HIGHEST is full float32. By default accelerators round the factors to fewer bits.
    product = jnp.matmul(patches, kernel.reshape(-1, filters), precision=jax.lax.Precision.HIGHEST)
    return product.reshape(batch, rows, columns, filters)


def convolve_by_xla(image: Array, kernel: Array, *, strides: int, padding: str) -> Array:
    """Computes the same function as `convolve` with XLA's own convolution.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      strides: step in both directions.
      padding: `VALID`, `SAME` or `FULL`.

    Returns:
      float32 [B, H', W', O]. It differs from `convolve` only by float32 rounding.
    """
    pads = padding_amounts(padding, len(kernel))
    return jax.lax.conv_general_dilated(
        image,
        kernel,
        window_strides=(strides, strides),
        padding=(pads, pads),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,
    )


def conv_stage(image: Array, kernel: Array, bias: Array, stage: Stage) -> Array:
    """Computes one stage of the model: convolution, bias, activation and pooling.

    JAX picks the form when it lowers the program for a platform. All forms agree up to float32
    rounding. So do their gradients, except where rounding decides which of equal values in a
    pooling window is the maximum.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      bias: float32 [O].
      stage: strides, padding, activation and pooling.

    Returns:
      float32 [B, H', W', O], the size after pooling.
    """
    on_cpu: Callable[..., Array] = _fused_stage if stage.strides == 1 else _plain_stage
    return jax.lax.platform_dependent(
        image,
        kernel,
        bias,
        cpu=functools.partial(on_cpu, stage=stage),
        default=functools.partial(_plain_stage, stage=stage, convolution=convolve_by_xla),
    )


def _plain_stage(
    image: Array,
    kernel: Array,
    bias: Array,
    *,
    stage: Stage,
    convolution: Callable[..., Array] = convolve,
) -> Array:
    """Computes `conv_stage` step by step; `convolution` is `convolve` or `convolve_by_xla`."""
    feature_map = convolution(image, kernel, strides=stage.strides, padding=stage.padding)
    activate = ACTIVATIONS[stage.activation]
    return pool(activate(feature_map + bias.reshape(1, 1, 1, -1)), stage.pool)


def _fused_stage(image: Array, kernel: Array, bias: Array, *, stage: Stage) -> Array:
    activation = ACTIVATIONS[stage.activation]
    return fused_stage(image, kernel, bias, stage.pads, activation, stage.pool)
