"""Convolution, bias and activation at stride 1 as four matrix products, for CPUs.

For 3x3 kernels on several channels that no pooling follows, where `fused_stage` is of no use.
The steps are those of that module, without its offsets of a pooling window:

1. Windows (`_extract_windows`). Two outputs, one below the other, together read four rows of three
   pixels. Winograd's transform (`winograd.py`) turns the four rows into the left factors of m0 to
   m3. For each m they are copied as one column of a matrix.
2. Weights (`_transform_kernel`). The same transform turns the three rows of the kernel into the
   right factors. Each filter is one row of a matrix.
3. Product. Weights times windows gives m0 to m3, and their sums the two outputs.

These are six multiplications for each output and channel instead of nine. The backward pass goes
back through the products by the transposes of steps 1 to 3. As in `fused_stage` the batch is
the last axis of every array in here.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn import winograd
from cnn_jax.nn.products import multiply, multiply_backward
from cnn_jax.nn.winograd import F_2_3


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def winograd_conv(
    image: Array,
    kernel: Array,
    bias: Array,
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
) -> Array:
    """Computes activation(convolution of image and kernel + bias), at stride 1.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [3, 3, C, O].
      bias: float32 [O].
      pads: zeros added (before, after) on both axes of the image.
      activation: function of one array, applied elementwise.

    Returns:
      float32 [B, H', W', O].
    """
    return _forward(image, kernel, bias, pads, activation)[0]


class _Residuals(NamedTuple):
    """Arrays that the forward pass saves for the backward pass.

    Attributes:
      image: float32 [B, H, W, C].
      kernel: float32 [3, 3, C, O].
      windows: float32 [4, 3 * C, pairs of rows, W', B], from `_extract_windows`.
      biased: float32 [O, H', W', B], before the activation.
    """

    image: Array
    kernel: Array
    windows: Array
    biased: Array


def _forward(
    image: Array,
    kernel: Array,
    bias: Array,
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
) -> tuple[Array, _Residuals]:
    """Returns the output of `winograd_conv` and the residuals for `_backward`."""
    windows = _extract_windows(image, pads)
    products = multiply(_transform_kernel(kernel), windows)
    outputs = jnp.stack(winograd.combine(F_2_3.outputs, products), axis=2)
    height = image.shape[1] + sum(pads) - 2  # An odd one leaves out the last row.
    convolution = outputs.reshape(len(outputs), -1, *outputs.shape[3:])[:, :height]
    # Without the barrier XLA computes it again for each window of the next convolution.
    biased = jax.lax.optimization_barrier(convolution + bias[:, None, None, None])
    output = activation(biased).transpose(3, 1, 2, 0)
    return output, _Residuals(image, kernel, windows, biased)


def _backward(
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
    residuals: _Residuals,
    gradient: Array,
) -> tuple[Array, Array, Array]:
    """Returns the gradients with respect to image, kernel and bias.

    Args:
      pads: as given to the forward pass.
      activation: as given to the forward pass.
      residuals: from the forward pass.
      gradient: float32 [B, H', W', O], with respect to the output.
    """
    image, kernel, windows, biased = residuals
    _, activation_vjp = jax.vjp(activation, biased)
    (d_biased,) = activation_vjp(gradient.transpose(3, 1, 2, 0))
    filters, height, width, batch = d_biased.shape
    pairs = windows.shape[2]
    d_outputs = jnp.pad(d_biased, ((0, 0), (0, 2 * pairs - height), (0, 0), (0, 0)))
    d_outputs = d_outputs.reshape(filters, pairs, 2, width, batch).transpose(2, 0, 1, 3, 4)
    groups = winograd.combine(winograd.transpose(F_2_3.outputs), d_outputs)
    weights, weights_vjp = jax.vjp(_transform_kernel, kernel)
    d_weights, d_windows = multiply_backward(
        weights, windows, jnp.stack(groups), transpose_weights=False
    )
    (d_kernel,) = weights_vjp(d_weights)
    extract = functools.partial(_extract_windows, pads=pads)
    (d_image,) = jax.linear_transpose(extract, image)(d_windows)
    return d_image, d_kernel, d_biased.sum((1, 2, 3))


winograd_conv.defvjp(_forward, _backward)


def _extract_windows(image: Array, pads: tuple[int, int]) -> Array:
    """Copies the windows of all pairs of outputs, and transforms their rows.

    Args:
      image: float32 [B, H, W, C].
      pads: zeros added (before, after) on both axes of the image.

    Returns:
      float32 [4, 3 * C, pairs of rows, W', B]: the pixels of d0 - d2, d1 + d2, d2 - d1 and d1 - d3.
    """
    batch, height, width, channels = image.shape
    before, after = pads
    columns = width + before + after - 2
    pairs = -(-(height + before + after - 2) // 2)
    padded = jax.lax.pad(
        image.transpose(3, 1, 2, 0),
        jnp.zeros((), image.dtype),
        # The zeros below the image reach to the end of the last window.
        ((0, 0, 0), (before, 2 * pairs + 2 - before - height, 0), (before, after, 0), (0, 0, 0)),
    )
    # Row i of the window at (y, x) is padded[2y + i]: even and odd rows are taken apart.
    halves = padded.reshape(channels, pairs + 1, 2, columns + 2, batch).transpose(2, 0, 1, 3, 4)
    window_rows = [
        jnp.stack([halves[i % 2, :, i // 2 : i // 2 + pairs, j : j + columns, :] for j in range(3)])
        for i in range(4)
    ]
    groups = jnp.stack(winograd.combine(F_2_3.windows, window_rows))
    return groups.reshape(4, 3 * channels, pairs, columns, batch)


def _transform_kernel(kernel: Array) -> Array:
    """Returns the right factors of m0 to m3: float32 [3, 3, C, O] -> [4, O, 3 * C]."""
    groups = winograd.transform_kernel(F_2_3, kernel)
    return jnp.moveaxis(groups, -1, 1).reshape(4, kernel.shape[-1], -1)
