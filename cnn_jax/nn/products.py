"""The matrix products of `fused_stage`, and their gradients.

All are batched: a group g has its own weights and windows, and its own product. How fast XLA's
libraries for CPUs are depends on the order of the axes, so it is settled here.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array

_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def multiply(weights: Array, windows: Array) -> Array:
    """Returns the weights times the windows, for each group.

    Args:
      weights: float32 [G, F, P]: a row for each filter, a column for each pixel and channel.
      windows: float32 [G, P, y, x, B].

    Returns:
      float32 [G, F, y, x, B].
    """
    products = _einsum("gfp,gpn->gfn", weights, _as_matrices(windows))
    return products.reshape(*products.shape[:2], *windows.shape[2:])


def multiply_backward(
    weights: Array, windows: Array, d_products: Array, *, transpose_weights: bool
) -> tuple[Array, Array]:
    """Returns the gradients with respect to the weights and the windows of `multiply`.

    Args:
      weights: as given to `multiply`.
      windows: as given to `multiply`.
      d_products: float32 [G, F, y, x, B], the gradient with respect to its result.
      transpose_weights: whether the weights are transposed in memory for the gradient of the
        windows. Otherwise XLA takes its older library for CPUs, since JAX 0.11 the slower one where
        a group is small.
    """
    matrices, d_matrices = _as_matrices(windows), _as_matrices(d_products)
    # The longer side of a small result comes first: XLA's libraries are faster so.
    if weights.shape[1] < weights.shape[2]:
        d_weights = _einsum("gpn,gfn->gpf", matrices, d_matrices).swapaxes(1, 2)
    else:
        d_weights = _einsum("gfn,gpn->gfp", d_matrices, matrices)
    if transpose_weights:
        # Without the barrier XLA lets the product transpose them.
        transposed = jax.lax.optimization_barrier(weights.swapaxes(1, 2))
        d_windows = _einsum("gpf,gfn->gpn", transposed, d_matrices)
    else:
        d_windows = _einsum("gfp,gfn->gpn", weights, d_matrices)
    return d_weights, d_windows.reshape(windows.shape)


def _as_matrices(array: Array) -> Array:
    """Flattens the axes of windows and batch: [G, rows, y, x, B] -> [G, rows, y * x * B]."""
    return array.reshape(*array.shape[:2], -1)
