"""Winograd's minimal filtering: several outputs of a filter with fewer multiplications.

F(m, k) computes m outputs of a filter of k values, which read m + k - 1 values, with as many
multiplications instead of m k. From Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, 2015, sections 4.1 and 4.3. F(2, 3), a filter (g0, g1, g2) on (d0, d1, d2, d3), is

    d0 g0 + d1 g1 + d2 g2 = m0 + m1 + m2         m0 = (d0 - d2) g0
    d1 g0 + d2 g1 + d3 g2 = m1 - m2 - m3         m1 = (d1 + d2) (g0 + g1 + g2) / 2
                                                 m2 = (d2 - d1) (g0 - g1 + g2) / 2
                                                 m3 = (d1 - d3) g2

Here the d are the rows of a window, the g the rows of a kernel, and the outputs lie one below the
other. Each m is a matrix product. The factors in these sums are the matrices of a `Transform`, in
the paper B^T, G and A^T. Where the d, g and m are rows of pixels, a second transform may turn each
of them into fewer multiplications along its columns: F(4, 3) of the rows with F(2, 3) of the
columns takes 24 products for 8 outputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

Matrix = tuple[tuple[int, ...], ...]


class Transform(NamedTuple):
    """The three linear functions of F(m, k): matrices of whole numbers, for `combine`.

    Attributes:
      windows: m + k - 1 rows of a window -> left factors of the m + k - 1 products.
      kernel: k rows of a kernel -> right factors times `divisors`.
      divisors: one for each product.
      outputs: products -> m outputs.
    """

    windows: Matrix
    kernel: Matrix
    divisors: tuple[int, ...]
    outputs: Matrix


F_2_3 = Transform(
    windows=((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    kernel=((1, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 1)),
    divisors=(1, 2, 2, 1),
    outputs=((1, 1, 1, 0), (0, 1, -1, -1)),
)
F_4_3 = Transform(
    windows=(
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    kernel=((1, 0, 0), (-1, -1, -1), (-1, 1, -1), (1, 2, 4), (1, -2, 4), (0, 0, 1)),
    divisors=(4, 6, 6, 24, 24, 1),
    outputs=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)

# F(2, 5) evaluates polynomials at the same points as F(4, 3), so that its windows are the same.
F_2_5 = Transform(
    windows=F_4_3.windows,
    kernel=(
        (1, 0, 0, 0, 0),
        (-1, -1, -1, -1, -1),
        (-1, 1, -1, 1, -1),
        (1, 2, 4, 8, 16),
        (1, -2, 4, -8, 16),
        (0, 0, 0, 0, 1),
    ),
    divisors=F_4_3.divisors,
    outputs=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 1)),
)


class Transforms(NamedTuple):
    """The transforms of a stage of `fused_stage`: none, one of the rows, or also the columns.

    Attributes:
      rows: of the rows of windows and kernel, or None.
      columns: of the columns, or None. It has two outputs, as a pooling window has columns.
    """

    rows: Transform | None
    columns: Transform | None


def choose(kernel_shape: tuple[int, ...], pooled_rows: int) -> Transforms:
    """Returns the transforms that are fastest for a stage of `fused_stage`.

    With one channel the products are too thin for any. 5x5 kernels take F(2, 5). For 3x3 kernels
    F(4, 3) makes the windows and the products a quarter smaller than F(2, 3) does. It computes two
    rows of pooled values at a time: where their number is odd, one row too many. With few channels
    this eats up the gain, or the longer compilation does, as for a map of two rows.

    A transform of the columns halves the multiplications. Its products are thin: a channel is a row
    of a matrix, not a channel and a column. So it needs many channels, or it costs more than it
    saves. In a map of few rows it saves little: with 32 channels a twentieth of the step.

    Args:
      kernel_shape: (k, k, C, O).
      pooled_rows: height of the feature map after pooling.
    """
    size, _, channels, _ = kernel_shape
    if size not in (3, 5) or channels == 1:
        return Transforms(None, None)
    if size == 5:
        return Transforms(F_2_5, None)
    is_high = pooled_rows >= 4
    rows = F_4_3 if is_high and (pooled_rows % 2 == 0 or channels > 16) else F_2_3
    return Transforms(rows, F_2_3 if channels >= (32 if is_high else 64) else None)


def transform_kernel(transform: Transform, kernel: Array) -> Array:
    """Returns the right factors of the products: kernel rows [k, ...] -> [m + k - 1, ...]."""
    sums = combine(transform.kernel, kernel)
    return jnp.stack([s / d for s, d in zip(sums, transform.divisors, strict=True)])


def combine(matrix: Matrix, arrays: Sequence[Array] | Array) -> list[Array]:
    """Returns a linear combination of the arrays for each row of the matrix.

    Args:
      matrix: factors [R, N].
      arrays: N arrays of one shape. XLA fuses R arrays better than their stack.

    Returns:
      R arrays of the same shape.
    """
    arrays = list(arrays)
    return [_combine_row(row, arrays) for row in matrix]


def _combine_row(row: tuple[int, ...], arrays: list[Array]) -> Array:
    """Returns the sum of factors times arrays; of a factor 1 or -1 without a multiplication."""
    terms = [(factor, array) for factor, array in zip(row, arrays, strict=True) if factor]
    factor, array = terms[0]
    total = _scale(factor, array)
    for factor, array in terms[1:]:
        scaled = _scale(abs(factor), array)
        total = total + scaled if factor > 0 else total - scaled
    return total


def _scale(factor: int, array: Array) -> Array:
    if abs(factor) == 1:
        return array if factor > 0 else -array
    return factor * array


def transpose(matrix: Matrix) -> Matrix:
    """Returns the matrix of the transposed linear function."""
    return tuple(zip(*matrix, strict=True))
