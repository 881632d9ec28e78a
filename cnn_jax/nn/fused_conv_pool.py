"""Convolution, bias, activation and 2x2 max pooling at once, as matrix products, for CPUs.

The four values that a pooling window compares come from a window of the image that is one row and
one column larger than the kernel. So the image is cut into such windows, two pixels apart, and
multiplied by a matrix that holds the kernel four times, once for each place in the pooling window;
what remains is the maximum of four rows. This takes more multiplications than needed (16 instead of
9 for a 3x3 kernel), but in one large product, which is what a CPU is fast at.

For 3x3 kernels Winograd's F(2, 3) halves them, along the rows of a window: the two outputs of a
filter (g0, g1, g2) that slides over (d0, d1, d2, d3) are m0 + m1 + m2 and m1 - m2 - m3, with

    m0 = (d0 - d2) g0    m1 = (d1 + d2) (g0 + g1 + g2) / 2
    m3 = (d1 - d3) g2    m2 = (d2 - d1) (g0 - g1 + g2) / 2

(Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1).

The batch is the last axis throughout, so that every copy moves long runs of numbers. Between the
products the other axes stay apart too: for an array that was flattened, XLA finds out by divisions
where each single number comes from.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

_product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def fused_conv_pool(
    image: Array,
    kernel: Array,
    bias: Array,
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
) -> Array:
    """activation(maximum over 2x2 of (image * kernel) + bias), at stride 1.

    A maximum taken before a bias and an increasing activation is the one taken after them.

    Args:
      image: float32 [B, H, W, C].
      kernel: float32 [k, k, C, O].
      bias: float32 [O].
      pads: zeros before and after each side of the image.
      activation: an increasing function of each value.

    Returns:
      float32 [B, H', W', O], where H' is half of the convolution's height, rounded down.
    """
    return _forward(image, kernel, bias, pads, activation)[0]


_Residuals = tuple[Array, Array, Array, Array, Array]


def _forward(
    image: Array,
    kernel: Array,
    bias: Array,
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
) -> tuple[Array, _Residuals]:
    windows = _extract_windows(image, kernel.shape, pads)
    products = _product(
        "gmk,gkn->gmn", _expand_kernel(kernel), windows.reshape(*windows.shape[:2], -1)
    )
    places = _pool_windows(products.reshape(*products.shape[:2], *windows.shape[2:]), kernel.shape)
    top, top_column = first_larger(places[0, 0], places[0, 1])
    bottom, bottom_column = first_larger(places[1, 0], places[1, 1])
    largest, lower = first_larger(top, bottom)
    place = jnp.where(lower, bottom_column + 2, top_column).astype(jnp.int8)
    biased = largest + bias[:, None, None, None]
    # XLA would otherwise compute both anew wherever they are used.
    biased, place = jax.lax.optimization_barrier((biased, place))
    return activation(biased).transpose(3, 1, 2, 0), (image, kernel, windows, place, biased)


def _backward(
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
    residuals: _Residuals,
    gradient: Array,
) -> tuple[Array, Array, Array]:
    image, kernel, windows, place, biased = residuals
    _, activation_gradient = jax.vjp(activation, biased)
    (d_biased,) = activation_gradient(gradient.transpose(3, 1, 2, 0))
    numbers = jnp.arange(4, dtype=place.dtype).reshape(2, 2, 1, 1, 1, 1)
    d_products = _pool_windows_transpose(
        jnp.where(place[None, None] == numbers, d_biased[None, None], 0), kernel.shape
    )
    d_products = d_products.reshape(*d_products.shape[:2], -1)
    spread, gather = jax.vjp(_expand_kernel, kernel)
    flat = windows.reshape(*windows.shape[:2], -1)
    (d_kernel,) = gather(_product("gmn,gkn->gmk", d_products, flat))
    d_windows = _product("gmk,gmn->gkn", spread, d_products).reshape(windows.shape)
    paste = jax.linear_transpose(lambda image: _extract_windows(image, kernel.shape, pads), image)
    (d_image,) = paste(d_windows)
    return d_image, d_kernel, d_biased.sum((1, 2, 3))


fused_conv_pool.defvjp(_forward, _backward)


def first_larger(first: Array, second: Array) -> tuple[Array, Array]:
    """The larger of two, the first of equals, a NaN before all; and whether it is the second.

    `jnp.maximum` would share the gradient of equals, which are frequent on an even background;
    here the first one gets it all, as in PyTorch.
    """
    is_second = ~((first >= second) | jnp.isnan(first))
    return jnp.where(is_second, second, first), is_second


def _uses_winograd(kernel_shape: tuple[int, ...]) -> bool:
    """Whether to use F(2, 3). With one channel the products are too thin for it to pay."""
    size, _, channels, _ = kernel_shape
    return size == 3 and channels > 1


def _extract_windows(image: Array, kernel_shape: tuple[int, ...], pads: tuple[int, int]) -> Array:
    """Cuts the image into windows, two pixels apart, each a column of a factor of a product.

    Args:
      image: [B, H, W, C].
      kernel_shape: (k, k, C, O).
      pads: zeros before and after each side.

    Returns:
      [groups, window's pixels * C, H', W', B]: four groups of a product each for F(2, 3), or one.
    """
    size, _, channels, _ = kernel_shape
    batch, height, width, _ = image.shape
    rows, columns = ((n + sum(pads) - size + 1) // 2 for n in (height, width))
    reach = size // 2 + 1  # Cells of 2x2 pixels that a window of size + 1 lies in, one direction.
    down, across = rows + reach - 1, columns + reach - 1
    before = pads[0]
    padded = jax.lax.pad(
        image.transpose(3, 1, 2, 0),
        jnp.zeros((), image.dtype),
        (
            (0, 0, 0),
            (before, 2 * down - before - height, 0),
            (before, 2 * across - before - width, 0),
            (0, 0, 0),
        ),
    )
    # The pixels at each place of a cell together: windows two pixels apart are then whole slices.
    cells = padded.reshape(channels, down, 2, across, 2, batch).transpose(2, 4, 0, 1, 3, 5)
    window_rows = [
        jnp.stack(
            [
                cells[i % 2, j % 2, :, i // 2 : i // 2 + rows, j // 2 : j // 2 + columns]
                for j in range(2 * reach)
            ]
        )
        for i in range(2 * reach)
    ]
    if _uses_winograd(kernel_shape):
        d0, d1, d2, d3 = window_rows
        groups = jnp.stack([d0 - d2, d1 + d2, d2 - d1, d1 - d3])
    else:
        groups = jnp.stack(window_rows)[None]
    return groups.reshape(len(groups), -1, rows, columns, batch)


def _expand_kernel(kernel: Array) -> Array:
    """The other factor: [k, k, C, O] -> [groups, places of a group * O, window's pixels * C]."""
    size, _, _, filters = kernel.shape
    spare = 2 * (size // 2 + 1) - size
    shifted = [jnp.pad(kernel, ((0, 0), (q, spare - q), (0, 0), (0, 0))) for q in (0, 1)]
    columns = jnp.stack(shifted, axis=1)  # [k, 2, window's columns, C, O]
    if _uses_winograd(kernel.shape):
        g0, g1, g2 = columns
        groups = jnp.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2])[:, :, None]
    else:
        shifted = [jnp.pad(columns, ((p, spare - p), *[(0, 0)] * 4)) for p in (0, 1)]
        both = jnp.stack(shifted).swapaxes(1, 2)  # [2, 2, window's rows and columns, C, O]
        groups = both.reshape(1, 4, *both.shape[2:])
    # [groups, places, window's rows, window's columns, C, O]: the filter goes beside its place.
    moved = jnp.moveaxis(groups, -1, 2)
    return moved.reshape(len(moved), moved.shape[1] * filters, -1)


def _pool_windows(products: Array, kernel_shape: tuple[int, ...]) -> Array:
    """[groups, places of a group * O, H', W', B] -> [2, 2, O, H', W', B]: the pooling windows."""
    filters = kernel_shape[-1]
    if _uses_winograd(kernel_shape):
        m0, m1, m2, m3 = products.reshape(4, 2, filters, *products.shape[2:])
        return jnp.stack([m0 + m1 + m2, m1 - m2 - m3])
    return products.reshape(2, 2, filters, *products.shape[2:])


def _pool_windows_transpose(places: Array, kernel_shape: tuple[int, ...]) -> Array:
    """The transpose of `_places`."""
    if _uses_winograd(kernel_shape):
        top, bottom = places
        groups = jnp.stack([top, top + bottom, top - bottom, -bottom])
    else:
        groups = places.reshape(1, -1, *places.shape[2:])
    return groups.reshape(len(groups), -1, *places.shape[3:])
