"""Convolution, bias, activation and maybe 2x2 pooling around one matrix product, for CPUs.

The usual way computes every output of the convolution, then pools each window of 2x2 outputs. Here
the four outputs of a pooling window come from one product:

1. Windows (`extract_windows`). The four outputs at rows 2y, 2y + 1 and columns 2x, 2x + 1 together
   read a square of k + 1 pixels a side, with its upper left corner at (2y, 2x) of the padded image.
   This window (of k + 2 pixels for an even k) is copied for every pooled position (y, x), as one
   column of a matrix.
2. Weights (`expand_kernel`). The kernel is placed into a window of zeros at the four offsets
   (p, q) with p, q in {0, 1}. Each of the resulting 4 * O filters is one row of a matrix.
3. Product. Weights times windows gives the four outputs of every pooling window.
4. Pooling. The maximum over the four offsets, then bias and activation, on a quarter of the values.
   The result is the same as with pooling last, because adding a bias and applying an activation
   that never decreases keep the order of the four values. The mean needs all four activations.
   Without pooling the four values are put beside and below each other again.

The zeros cost multiplications (16 instead of 9 for each output of a 3x3 kernel), but one large
product is what a CPU is fastest at. For a batch of B MNIST images, the product of `conv_1` is
[32, 16] weights, four offsets times eight filters, by [16, 14 * 14 * B] windows.

For 3x3 and 5x5 kernels on several channels, such as `conv_2` of the reference model but not
`conv_1`, the rows of a window go through one of Winograd's transforms (`winograd.py`), which save
multiplications. Then step 3 is several products, groups, each with half the rows and fewer columns
than the weights above: four groups in `conv_2`. Without Winograd there is one group. With F(4, 3) a
window has six rows, and its six products give two pooled values, one below the other. With many
channels the columns go through F(2, 3) too, instead of the two column offsets: a window of 4x4
pixels becomes 16 groups, one of 6x4 pixels 24, each with one row for a filter and one column for a
channel.

The backward pass of max pooling keeps which of the four values is the maximum, and gives the
gradient to that value alone; that of the mean is JAX's own. `_convolve_backward` then goes back
through the product by the transposes of steps 1 to 3. For max pooling and one weight this comes to

    d_kernel[i, j, c, o] = sum over y, x, b of d_biased[o, y, x, b] * padded[b, 2y+p+i, 2x+q+j, c]

where (p, q) is the offset of the maximum in the pooling window at (y, x).

Memory layout: the batch is the last axis of every array in here, so that every copy moves long
contiguous runs. Outside the products the other axes stay separate, because XLA recovers the indices
of a flattened axis with integer divisions, for every value.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn import winograd
from cnn_jax.nn.pooling import first_maximum
from cnn_jax.nn.products import multiply, multiply_backward
from cnn_jax.nn.shapes import POOL_SIZE, output_size
from cnn_jax.nn.windows import expand_kernel, extract_windows, pooled_size
from cnn_jax.nn.winograd import Transform, Transforms

# The outputs of the convolution by offset p and q, for each pooled row of a window, one or two:
# float32 [2, 2, O, rows of windows, W', B].
_Outputs = list[Array]


def fused_stage(
    image: Array,
    kernel: Array,
    bias: Array,
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
    pool: str,
) -> Array:
    """Computes pool(activation(convolution of image and kernel + bias)), at stride 1.

    Pooling drops an odd last row or column of the convolution. Of equal values in a pooling window
    the first one is the maximum and gets the whole gradient. A NaN in a pooling window is its
    maximum.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      bias: float32 [O].
      pads: zeros added (before, after) on both axes of the image.
      activation: an elementwise function, which for max pooling never decreases.
      pool: `max` or `avg`, over windows of 2x2, or `none`.

    Returns:
      float32 [B, H', W', O], where H' and W' are the height and width of the convolution, with
      pooling half of them, rounded down.
    """
    height, width = (output_size(n, len(kernel), pads, stride=1) for n in image.shape[1:3])
    if pool == "none":
        # An odd last row or column of the convolution needs a whole window.
        image = jnp.pad(image, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    else:
        height, width = height // POOL_SIZE, width // POOL_SIZE
    outputs = _convolve(image, kernel, pads, pool != "max")
    if pool == "max":
        result = _max_pool(outputs, bias, activation)
    else:
        activated = [activation(o + bias.reshape(1, 1, -1, 1, 1, 1)) for o in outputs]
        if pool == "avg":
            rows = [_mean(offsets) for offsets in activated]
        else:
            rows = [row for offsets in activated for row in _rows(offsets)]
        # Without the barrier XLA computes it again for each window of the next convolution.
        result = jax.lax.optimization_barrier(_interleave(rows))
    # There may be a column too many, and with F(4, 3) rows.
    return result[:, :height, :width].transpose(3, 1, 2, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(image: Array, kernel: Array, pads: tuple[int, int], by_split: bool) -> _Outputs:
    """Computes the convolution, arranged by the offsets of a pooling window.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      pads: zeros added (before, after) on both axes of the image.
      by_split: as for `extract_windows`.
    """
    return _convolve_forward(image, kernel, pads, by_split)[0]


# What the backward pass needs: image (only its shape and dtype), kernel, and the windows from
# `extract_windows`.
_Residuals = tuple[Array, Array, Array]


def _convolve_forward(
    image: Array, kernel: Array, pads: tuple[int, int], by_split: bool
) -> tuple[_Outputs, _Residuals]:
    """Returns the output of `_convolve` and the residuals for `_convolve_backward`."""
    transforms = _transforms_of(image, kernel, pads)
    windows = extract_windows(image, kernel.shape, pads, by_split=by_split)
    products = multiply(expand_kernel(kernel, transforms), windows)
    return _outputs_by_offset(products, transforms), (image, kernel, windows)


def _convolve_backward(
    pads: tuple[int, int], by_split: bool, residuals: _Residuals, d_outputs: _Outputs
) -> tuple[Array, Array]:
    """Returns the gradients with respect to image and kernel.

    Args:
      pads: as given to the forward pass.
      by_split: as given to the forward pass.
      residuals: from the forward pass.
      d_outputs: the gradient with respect to the outputs.
    """
    image, kernel, windows = residuals
    transforms = _transforms_of(image, kernel, pads)
    d_products = _outputs_by_offset_transpose(d_outputs, transforms)
    weights, weights_vjp = jax.vjp(functools.partial(expand_kernel, transforms=transforms), kernel)
    d_weights, d_windows = multiply_backward(
        weights, windows, d_products, transpose_weights=transforms.columns is not None
    )
    (d_kernel,) = weights_vjp(d_weights)
    extract = functools.partial(
        extract_windows, kernel_shape=kernel.shape, pads=pads, by_split=by_split
    )
    # Nothing uses the gradient of the first stage's image: there XLA drops its computation.
    (d_image,) = jax.linear_transpose(extract, image)(d_windows)
    return d_image, d_kernel


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _transforms_of(image: Array, kernel: Array, pads: tuple[int, int]) -> Transforms:
    return winograd.choose(kernel.shape, pooled_size(image.shape[1], len(kernel), pads))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _max_pool(outputs: _Outputs, bias: Array, activation: Callable[[Array], Array]) -> Array:
    """Computes activation(maximum over the offsets + bias): float32 [O, H', W', B]."""
    return _max_pool_forward(outputs, bias, activation)[0]


def _max_pool_forward(
    outputs: _Outputs, bias: Array, activation: Callable[[Array], Array]
) -> tuple[Array, tuple[Array, list[Array]]]:
    """Returns the output of `_max_pool`, and what the backward pass needs.

    That is the maximum plus the bias, from which the slope of the activation is computed again, and
    for each of the outputs the index 2p + q of the maximum, int8 [O, rows of windows, W', B].
    """
    maxima, argmax = [], []
    for offsets in outputs:
        top, top_is_right = first_maximum(offsets[0, 0], offsets[0, 1])
        bottom, bottom_is_right = first_maximum(offsets[1, 0], offsets[1, 1])
        maximum, is_bottom = first_maximum(top, bottom)
        maxima.append(maximum)
        argmax.append(jnp.where(is_bottom, bottom_is_right + 2, top_is_right).astype(jnp.int8))
    biased = _interleave(maxima) + bias[:, None, None, None]
    # Without the barrier XLA computes both again wherever they are used.
    biased, argmax = jax.lax.optimization_barrier((biased, argmax))
    return activation(biased), (biased, argmax)


def _max_pool_backward(
    activation: Callable[[Array], Array], residuals: tuple[Array, list[Array]], gradient: Array
) -> tuple[_Outputs, Array]:
    """Returns the gradients with respect to the outputs and the bias."""
    biased, argmax = residuals
    _, activation_vjp = jax.vjp(activation, biased)
    (d_biased,) = activation_vjp(gradient)
    offsets = jnp.arange(4, dtype=jnp.int8).reshape(2, 2, 1, 1, 1, 1)
    filters, rows, columns, batch = argmax[0].shape
    d_rows = d_biased.reshape(filters, rows, len(argmax), columns, batch)
    d_outputs = [
        jnp.where(indices[None, None] == offsets, d_rows[None, None, :, :, row], 0)
        for row, indices in enumerate(argmax)
    ]
    return d_outputs, d_biased.sum((1, 2, 3))


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _mean(offsets: Array) -> Array:
    """Returns the mean over the offsets: [2, 2, ...] -> [...]."""
    (top_left, top_right), (bottom_left, bottom_right) = offsets
    return (top_left + top_right + bottom_left + bottom_right) / 4


def _rows(offsets: Array) -> list[Array]:
    """Puts the two columns of each window beside each other: [2, 2, O, ..., W', B] -> two rows."""
    return [
        jnp.stack(list(row), axis=3).reshape(*row.shape[1:3], -1, row.shape[-1]) for row in offsets
    ]


def _outputs_by_offset(products: Array, transforms: Transforms) -> _Outputs:
    """Arranges the products by the offsets of a pooling window; with Winograd it sums them first.

    Args:
      products: float32 [groups, offsets * O, rows of windows, W', B].
      transforms: of Winograd.
    """
    if transforms.columns:
        products = _sum_columns(products, transforms.columns)
    shape = products.shape[2:]
    if not transforms.rows:
        return [products.reshape(2, 2, -1, *shape)]
    products = products.reshape(len(products), 2, -1, *shape)
    rows = winograd.combine(transforms.rows.outputs, products)
    return [jnp.stack(pair) for pair in zip(rows[::2], rows[1::2], strict=True)]


def _outputs_by_offset_transpose(d_outputs: _Outputs, transforms: Transforms) -> Array:
    """Applies the transpose of the linear function `_outputs_by_offset`, which gives products."""
    if not transforms.rows:
        (d_products,) = d_outputs
        return d_products.reshape(1, -1, *d_products.shape[3:])
    d_rows = [row for pair in d_outputs for row in pair]
    d_products = jnp.stack(winograd.combine(winograd.transpose(transforms.rows.outputs), d_rows))
    d_products = d_products.reshape(len(d_products), -1, *d_products.shape[3:])
    if transforms.columns:
        return _sum_columns_transpose(d_products, transforms.columns)
    return d_products


def _sum_columns(products: Array, transform: Transform) -> Array:
    """Sums the products to those that the two column offsets would give.

    Args:
      products: float32 [rows * columns, O, rows of windows, W', B], a group for each product of the
        two transforms.
      transform: of the columns.

    Returns:
      float32 [rows, 2 * O, rows of windows, W', B].
    """
    rows = products.reshape(-1, len(transform.windows), *products.shape[1:])
    sums = jnp.stack([jnp.stack(winograd.combine(transform.outputs, row)) for row in rows])
    # Without the barrier XLA computes each sum again wherever it is used.
    return jax.lax.optimization_barrier(sums.reshape(len(rows), -1, *products.shape[2:]))


def _sum_columns_transpose(d_sums: Array, transform: Transform) -> Array:
    """Applies the transpose of the linear function `_sum_columns`."""
    rows = jax.lax.optimization_barrier(d_sums)
    rows = rows.reshape(len(rows), len(transform.outputs), -1, *rows.shape[2:])
    matrix = winograd.transpose(transform.outputs)
    d_products = jnp.stack([jnp.stack(winograd.combine(matrix, row)) for row in rows])
    return d_products.reshape(-1, *d_products.shape[2:])


def _interleave(rows: Sequence[Array]) -> Array:
    """Puts the rows of each window one below the other: [O, y, ...] each -> [O, H', ...]."""
    return jnp.stack(rows, axis=2).reshape(len(rows[0]), -1, *rows[0].shape[2:])
