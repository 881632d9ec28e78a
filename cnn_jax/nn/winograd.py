"""Winograd's F(2, 3): two outputs of a filter of three values with four multiplications.

Six would be needed without it, and eight in `fused_conv_pool`, two of them by zeros. From Lavin and
Gray, Fast Algorithms for Convolutional Neural Networks, 2015, section 4.1. A filter (g0, g1, g2) on
four values (d0, d1, d2, d3) gives

    d0 g0 + d1 g1 + d2 g2 = m0 + m1 + m2         m0 = (d0 - d2) g0
    d1 g0 + d2 g1 + d3 g2 = m1 - m2 - m3         m1 = (d1 + d2) (g0 + g1 + g2) / 2
                                                 m2 = (d2 - d1) (g0 - g1 + g2) / 2
                                                 m3 = (d1 - d3) g2

Here d0 to d3 are the rows of a window, g0 to g2 the rows of a kernel, and the two outputs lie one
below the other, in `fused_conv_pool` in one pooling window. Each m is a matrix product.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array


def is_used(kernel_shape: tuple[int, ...]) -> bool:
    """Returns whether to use F(2, 3). With one channel the products are too thin for it to pay."""
    size, _, channels, _ = kernel_shape
    return size == 3 and channels > 1


def transform_windows(rows: Sequence[Array]) -> Array:
    """Returns the left factors of m0 to m3: four rows [...] -> [4, ...]."""
    d0, d1, d2, d3 = rows
    return jnp.stack([d0 - d2, d1 + d2, d2 - d1, d1 - d3])


def transform_kernel(kernel: Array) -> Array:
    """Returns the right factors of m0 to m3: kernel rows [3, ...] -> [4, ...]."""
    g0, g1, g2 = kernel
    return jnp.stack([g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2])


def sum_products(products: Array) -> Array:
    """Returns the two outputs from m0 to m3: [4, ...] -> [2, ...]."""
    m0, m1, m2, m3 = products
    return jnp.stack([m0 + m1 + m2, m1 - m2 - m3])


def sum_products_transpose(d_outputs: Array) -> Array:
    """Applies the transpose of `sum_products`: gradients [2, ...] -> [4, ...]."""
    top, bottom = d_outputs
    return jnp.stack([top, top + bottom, top - bottom, -bottom])
