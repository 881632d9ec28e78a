"""Applies a function of one model to many models: vectorized, or one after the other."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from cnn_jax.engine.sharding import MODEL


def map_models(mesh: Mesh, function: Callable[..., Any], *trees: Any) -> Any:
    """Applies a function of one model to all models, on all devices at once.

    The models of one device are vectorized by `jax.vmap`, or mapped one after the other: see
    `maps_sequentially`.

    Args:
      mesh: from `sharding.make_mesh`.
      function: function of trees without the axis of the models.
      trees: trees of arrays whose first axis is that of the models.

    Returns:
      The results of `function`, stacked along a first axis.
    """
    if jax.tree.leaves(trees)[0].shape[0] == 1:  # Less for JAX and XLA to compile.
        result = function(*jax.tree.map(lambda a: a[0], trees))
        return jax.tree.map(lambda a: a[None], result)
    devices = mesh.shape[MODEL]

    def map_on_device(models: Any) -> Any:
        if maps_sequentially(mesh):
            return jax.lax.map(lambda model: function(*model), models)
        return jax.vmap(function)(*models)

    split = jax.tree.map(lambda a: a.reshape(devices, -1, *a.shape[1:]), trees)
    results = jax.vmap(map_on_device, spmd_axis_name=MODEL)(split)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), results)


def maps_sequentially(mesh: Mesh) -> bool:
    """Returns whether a device computes its models one after the other.

    An accelerator computes all of them in one vectorized step. On a CPU the caches hold what one
    model needs, and vectorized steps take up to twice as long.
    """
    return bool(mesh.devices.flat[0].platform == "cpu")
