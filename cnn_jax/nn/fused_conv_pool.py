"""Convolution, bias, activation and 2x2 pooling around one matrix product, for CPUs.

The usual way computes every output of the convolution, then pools each window of 2x2 outputs. Here
the four outputs of a pooling window come from one product:

1. Windows (`_extract_windows`). The four outputs at rows 2y, 2y + 1 and columns 2x, 2x + 1 together
   read a square of k + 1 pixels a side, with its upper left corner at (2y, 2x) of the padded image.
   This window (of k + 2 pixels for an even k) is copied for every pooled position (y, x), as one
   column of a matrix.
2. Weights (`_expand_kernel`). The kernel is placed into a window of zeros at the four offsets
   (p, q) with p, q in {0, 1}. Each of the resulting 4 * O filters is one row of a matrix.
3. Product. Weights times windows gives the four outputs of every pooling window.
4. Pooling. The maximum over the four offsets, then bias and activation, on a quarter of the values.
   The result is the same as with pooling last, because adding a bias and applying an activation
   that never decreases keep the order of the four values. The mean needs all four activations.

The zeros cost multiplications (16 instead of 9 for each output of a 3x3 kernel), but one large
product is what a CPU is fastest at. For a batch of B MNIST images, the product of `conv_1` is
[32, 16] weights, four offsets times eight filters, by [16, 14 * 14 * B] windows.

For 3x3 kernels on several channels, such as `conv_2` of the reference model but not `conv_1`, the
rows of a window go through Winograd's transforms (`winograd.py`), which halve the multiplications.
Then step 3 is four products, groups, each with half the rows and a quarter of the columns of the
weights above. Without Winograd there is one group.

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
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from cnn_jax.nn import winograd
from cnn_jax.nn.pooling import first_maximum

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def fused_conv_pool(
    image: Array,
    kernel: Array,
    bias: Array,
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
    pool: str,
) -> Array:
    """Computes pool(activation(convolution of image and kernel + bias)), at stride 1.

    An odd last row or column of the convolution is dropped. Of equal values in a pooling window the
    first one is the maximum and gets the whole gradient. A NaN in a pooling window is its maximum.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      bias: float32 [O].
      pads: zeros added (before, after) on both axes of the image.
      activation: an elementwise function, which for max pooling never decreases.
      pool: `max` or `avg`, over windows of 2x2.

    Returns:
      float32 [B, H', W', O], where H' and W' are half the height and width of the convolution,
      rounded down.
    """
    outputs = _convolve(image, kernel, pads)
    if pool == "max":
        pooled = activation(_max_pool(outputs, bias))
    else:
        activated = activation(outputs + bias.reshape(1, 1, -1, 1, 1, 1))
        (top_left, top_right), (bottom_left, bottom_right) = activated
        mean = (top_left + top_right + bottom_left + bottom_right) / 4
        # Without the barrier XLA computes it again for each window of the next convolution.
        pooled = jax.lax.optimization_barrier(mean)
    return pooled.transpose(3, 1, 2, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(image: Array, kernel: Array, pads: tuple[int, int]) -> Array:
    """Computes the convolution, arranged by the offsets of a pooling window.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      pads: zeros added (before, after) on both axes of the image.

    Returns:
      float32 [2, 2, O, H', W', B]: the outputs of the convolution by offset p and q.
    """
    return _convolve_forward(image, kernel, pads)[0]


# What the backward pass needs: image (only its shape and dtype), kernel, and the windows from
# `_extract_windows`.
_Residuals = tuple[Array, Array, Array]


def _convolve_forward(
    image: Array, kernel: Array, pads: tuple[int, int]
) -> tuple[Array, _Residuals]:
    """Returns the output of `_convolve` and the residuals for `_convolve_backward`."""
    windows = _extract_windows(image, kernel.shape, pads)
    # g: group, f: filter at an offset, p: pixel and channel of a window, n: window and example.
    products = _einsum(
        "gfp,gpn->gfn", _expand_kernel(kernel), windows.reshape(*windows.shape[:2], -1)
    )
    outputs = _outputs_by_offset(
        products.reshape(*products.shape[:2], *windows.shape[2:]), kernel.shape
    )
    return outputs, (image, kernel, windows)


def _convolve_backward(
    pads: tuple[int, int], residuals: _Residuals, d_outputs: Array
) -> tuple[Array, Array]:
    """Returns the gradients with respect to image and kernel.

    Args:
      pads: as given to the forward pass.
      residuals: from the forward pass.
      d_outputs: float32 [2, 2, O, H', W', B], the gradient with respect to the outputs.
    """
    image, kernel, windows = residuals
    d_products = _outputs_by_offset_transpose(d_outputs, kernel.shape)
    d_products = d_products.reshape(*d_products.shape[:2], -1)
    weights, weights_vjp = jax.vjp(_expand_kernel, kernel)
    window_matrix = windows.reshape(*windows.shape[:2], -1)
    (d_kernel,) = weights_vjp(_einsum("gfn,gpn->gfp", d_products, window_matrix))
    d_windows = _einsum("gfp,gfn->gpn", weights, d_products).reshape(windows.shape)
    extract = functools.partial(_extract_windows, kernel_shape=kernel.shape, pads=pads)
    # Nothing uses the gradient of the first stage's image: there XLA drops its computation.
    (d_image,) = jax.linear_transpose(extract, image)(d_windows)
    return d_image, d_kernel


_convolve.defvjp(_convolve_forward, _convolve_backward)


@jax.custom_vjp
def _max_pool(outputs: Array, bias: Array) -> Array:
    """Computes the maximum over the offsets, plus the bias.

    Args:
      outputs: float32 [2, 2, O, H', W', B], from `_convolve`.
      bias: float32 [O].

    Returns:
      float32 [O, H', W', B].
    """
    return _max_pool_forward(outputs, bias)[0]


def _max_pool_forward(outputs: Array, bias: Array) -> tuple[Array, Array]:
    """Returns the output of `_max_pool`, and the index 2p + q of each maximum, as int8."""
    top, top_is_right = first_maximum(outputs[0, 0], outputs[0, 1])
    bottom, bottom_is_right = first_maximum(outputs[1, 0], outputs[1, 1])
    maximum, is_bottom = first_maximum(top, bottom)
    argmax = jnp.where(is_bottom, bottom_is_right + 2, top_is_right).astype(jnp.int8)
    # Without the barrier XLA computes both again wherever they are used.
    return jax.lax.optimization_barrier((maximum + bias[:, None, None, None], argmax))


def _max_pool_backward(argmax: Array, d_biased: Array) -> tuple[Array, Array]:
    """Returns the gradients with respect to the outputs and the bias."""
    offsets = jnp.arange(4, dtype=argmax.dtype).reshape(2, 2, 1, 1, 1, 1)
    d_outputs = jnp.where(argmax[None, None] == offsets, d_biased[None, None], 0)
    return d_outputs, d_biased.sum((1, 2, 3))


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _extract_windows(image: Array, kernel_shape: tuple[int, ...], pads: tuple[int, int]) -> Array:
    """Copies the window of every pooled position, and combines its rows where Winograd is used.

    Windows are two pixels apart. A window is as large as the smallest even size that holds k + 1
    pixels a side: k + 1 for odd kernels, k + 2 for even ones.

    Args:
      image: float32 [B, H, W, C].
      kernel_shape: (k, k, C, O).
      pads: zeros added (before, after) on both axes of the image.

    Returns:
      float32 [groups, pixels * C, H', W', B]. One group holds all pixels of the windows; with
      Winograd four groups hold the pixels of d0 - d2, d1 + d2, d2 - d1 and d1 - d3.
    """
    size, _, channels, _ = kernel_shape
    batch, height, width, _ = image.shape
    rows, columns = ((n + sum(pads) - size + 1) // 2 for n in (height, width))
    window_cells = size // 2 + 1  # A cell is a square of 2x2 pixels; windows are one cell apart.
    cell_rows, cell_columns = rows + window_cells - 1, columns + window_cells - 1
    before = pads[0]
    padded = jax.lax.pad(
        image.transpose(3, 1, 2, 0),
        jnp.zeros((), image.dtype),
        (
            (0, 0, 0),
            # The zeros after the image reach to the end of the last window. Their number is
            # negative where an odd last row or column is not needed.
            (before, 2 * cell_rows - before - height, 0),
            (before, 2 * cell_columns - before - width, 0),
            (0, 0, 0),
        ),
    )
    # Pixel (i, j) of the window at (y, x) is padded[2y + i, 2x + j]. With even and odd rows and
    # columns apart, as [2, 2, C, cell rows, cell columns, B], that is one slice for all windows.
    cells = padded.reshape(channels, cell_rows, 2, cell_columns, 2, batch)
    cells = cells.transpose(2, 4, 0, 1, 3, 5)
    # The gradient of a split is one array; that of an index is zeros around a part of it, and JAX
    # 0.10.2 can write these to memory for every slice.
    corners = [jax.lax.split(half, (1, 1), axis=1) for half in jax.lax.split(cells, (1, 1))]
    window_rows = [
        jnp.stack(
            [
                corners[i % 2][j % 2][0, 0, :, i // 2 : i // 2 + rows, j // 2 : j // 2 + columns]
                for j in range(2 * window_cells)
            ]
        )
        for i in range(2 * window_cells)
    ]
    if winograd.is_used(kernel_shape):
        groups = winograd.transform_windows(window_rows)
    else:
        groups = jnp.stack(window_rows)[None]
    return groups.reshape(len(groups), -1, rows, columns, batch)


def _expand_kernel(kernel: Array) -> Array:
    """Places the kernel into windows at all offsets; with Winograd only at the column offsets.

    Args:
      kernel: float32 [k, k, C, O].

    Returns:
      float32 [groups, offsets * O, pixels * C]: one group with the offsets (0, 0), (0, 1), (1, 0),
      (1, 1); with Winograd four groups with the column offsets 0 and 1.
    """
    size, _, _, filters = kernel.shape
    spare = 2 * (size // 2 + 1) - size  # Pixels by which a window is larger than the kernel.
    shifted = [jnp.pad(kernel, ((0, 0), (q, spare - q), (0, 0), (0, 0))) for q in (0, 1)]
    columns = jnp.stack(shifted, axis=1)  # [kernel rows, q, window columns, C, O]
    if winograd.is_used(kernel.shape):
        groups = winograd.transform_kernel(columns)[:, :, None]
    else:
        shifted = [jnp.pad(columns, ((p, spare - p), *[(0, 0)] * 4)) for p in (0, 1)]
        windows = jnp.stack(shifted).swapaxes(1, 2)  # [p, q, window rows, window columns, C, O]
        groups = windows.reshape(1, 4, *windows.shape[2:])
    # [groups, offsets, O, window rows, window columns, C]: a row of the matrix is one filter.
    groups = jnp.moveaxis(groups, -1, 2)
    return groups.reshape(len(groups), groups.shape[1] * filters, -1)


def _outputs_by_offset(products: Array, kernel_shape: tuple[int, ...]) -> Array:
    """Arranges the products by the offsets of a pooling window; with Winograd it sums them first.

    Args:
      products: float32 [groups, offsets * O, H', W', B].
      kernel_shape: (k, k, C, O).

    Returns:
      float32 [2, 2, O, H', W', B]: the outputs of the convolution by offset p and q.
    """
    filters = kernel_shape[-1]
    if winograd.is_used(kernel_shape):
        return winograd.sum_products(products.reshape(4, 2, filters, *products.shape[2:]))
    return products.reshape(2, 2, filters, *products.shape[2:])


def _outputs_by_offset_transpose(d_outputs: Array, kernel_shape: tuple[int, ...]) -> Array:
    """Applies the transpose of the linear function `_outputs_by_offset`.

    Args:
      d_outputs: float32 [2, 2, O, H', W', B], the gradient with respect to the outputs.
      kernel_shape: (k, k, C, O).

    Returns:
      float32 [groups, offsets * O, H', W', B], the gradient with respect to the products.
    """
    if winograd.is_used(kernel_shape):
        groups = winograd.sum_products_transpose(d_outputs)
    else:
        groups = d_outputs.reshape(1, -1, *d_outputs.shape[2:])
    return groups.reshape(len(groups), -1, *d_outputs.shape[3:])
