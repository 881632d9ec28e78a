"""Convolution, bias, activation and 2x2 max pooling in one matrix product, for CPUs.

The four values that a pooling window compares come from a window of the image that is one row and
one column larger than the kernel. So the image is cut into such windows, two pixels apart, and
multiplied by a matrix that holds the kernel four times, once for each place in the pooling window;
what remains is the maximum of four rows. This takes more multiplications than needed (16 instead of
9 for a 3x3 kernel), but one large product of them, which is what a CPU is fast at.

The batch is the last axis throughout, so that every copy moves long runs of numbers.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))  # Of a pooling window, in reading order.
_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def block_stage(
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
    size, _, _, filters = kernel.shape
    batch, height, width, _ = image.shape
    rows, columns = ((n + sum(pads) - size + 1) // 2 for n in (height, width))
    windows = _cut(image, size + 1, pads, rows, columns)
    values = _matmul(_spread(kernel), windows).reshape(4, filters, -1)
    top, top_place = _first_larger(values[0], values[1])
    bottom, bottom_place = _first_larger(values[2], values[3])
    largest, lower = _first_larger(top, bottom)
    place = jnp.where(lower, bottom_place + 2, top_place).astype(jnp.int8)
    biased = largest + bias[:, None]
    result = activation(biased).reshape(filters, rows, columns, batch).transpose(3, 1, 2, 0)
    return result, (image, kernel, windows, place, biased)


def _backward(
    pads: tuple[int, int],
    activation: Callable[[Array], Array],
    residuals: _Residuals,
    gradient: Array,
) -> tuple[Array, Array, Array]:
    image, kernel, windows, place, biased = residuals
    size, _, channels, filters = kernel.shape
    _, rows, columns, _ = gradient.shape
    _, activation_gradient = jax.vjp(activation, biased)
    (d_biased,) = activation_gradient(gradient.transpose(3, 1, 2, 0).reshape(filters, -1))
    d_values = jnp.concatenate([jnp.where(place == p, d_biased, 0) for p in range(4)])
    d_spread = _matmul(d_values, windows.T).reshape(4, filters, size + 1, size + 1, channels)
    d_windows = _matmul(_spread(kernel).T, d_values)
    return (
        _paste(d_windows, image.shape, size + 1, pads, rows, columns),
        _gather(d_spread),
        d_biased.sum(1),
    )


block_stage.defvjp(_forward, _backward)


def _first_larger(first: Array, second: Array) -> tuple[Array, Array]:
    """The larger of two, the first of equals, a NaN before all; and whether it is the second."""
    is_second = ~((first >= second) | jnp.isnan(first))
    return jnp.where(is_second, second, first), is_second


def _spread(kernel: Array) -> Array:
    """[k, k, C, O] -> [4 O, (k+1)^2 C]: the kernel at each place of the pooling window."""
    filters = kernel.shape[-1]
    copies = [jnp.pad(kernel, ((p, 1 - p), (q, 1 - q), (0, 0), (0, 0))) for p, q in _PLACES]
    return jnp.stack(copies).transpose(0, 4, 1, 2, 3).reshape(4 * filters, -1)


def _gather(spread: Array) -> Array:
    """[4, O, k+1, k+1, C] -> [k, k, C, O]: the sum over the places, the transpose of `_spread`."""
    size = spread.shape[2] - 1
    parts = [spread[n, :, p : p + size, q : q + size] for n, (p, q) in enumerate(_PLACES)]
    return sum(parts[1:], parts[0]).transpose(1, 2, 3, 0)


def _cut(image: Array, size: int, pads: tuple[int, int], rows: int, columns: int) -> Array:
    """[B, H, W, C] -> [size^2 C, rows * columns * B]: windows two pixels apart."""
    padded = jnp.pad(image.transpose(3, 1, 2, 0), ((0, 0), pads, pads, (0, 0)))
    views = [
        padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(views).reshape(size * size * image.shape[3], -1)


def _paste(
    windows: Array,
    image_shape: tuple[int, ...],
    size: int,
    pads: tuple[int, int],
    rows: int,
    columns: int,
) -> Array:
    """Adds windows up where they were cut from: the transpose of `_cut`.

    Pixels of even and of odd row (and column) are summed apart, as shifted whole maps, and
    interleaved at the end: row 2a + p of the padded image lies in the windows a, a - 1, ... as
    their row p, p + 2, ...
    """
    batch, height, width, channels = image_shape
    windows = windows.reshape(size, size, channels, rows, columns, batch)
    overlap = (size - 1) // 2  # How many more windows than one a pixel can lie in, one direction.

    def pixels(p: int, q: int) -> Array:
        parts = [
            jnp.pad(
                windows[i, j],
                ((0, 0), (i // 2, overlap - i // 2), (j // 2, overlap - j // 2), (0, 0)),
            )
            for i in range(p, size, 2)
            for j in range(q, size, 2)
        ]
        return sum(parts[1:], parts[0])

    sums = jnp.stack([jnp.stack([pixels(p, q) for q in (0, 1)], 3) for p in (0, 1)], 2)
    # [C, rows + overlap, 2, columns + overlap, 2, B]: the two parities beside their maps.
    sums = sums.reshape(channels, 2 * (rows + overlap), 2 * (columns + overlap), batch)
    # An odd last row or column lies in no window.
    before = pads[0]
    below, beside = max(0, before + height - sums.shape[1]), max(0, before + width - sums.shape[2])
    sums = jnp.pad(sums, ((0, 0), (0, below), (0, beside), (0, 0)))
    inner = sums[:, before : before + height, before : before + width]
    return inner.transpose(3, 1, 2, 0)
