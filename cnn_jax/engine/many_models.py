"""Applies a function of one model to many models: vectorized, or one after the other."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from cnn_jax.engine.sharding import MODEL, is_cpu


def map_models(
    mesh: Mesh, function: Callable[..., Any], *trees: Any, shared: tuple[Any, ...] = ()
) -> Any:
    """Applies a function of one model to all models, on all devices at once.

    The models of one device are vectorized by `jax.vmap`, or mapped one after the other: see
    `maps_sequentially`. No device computes or receives anything of another device's models:
    `jax.shard_map` guarantees it, where XLA alone would not split the convolutions that `jax.vmap`
    makes of many models.

    Args:
      mesh: from `sharding.make_mesh`.
      function: function of one model's part of `trees`, without the axis of the models, and of
        `shared`. It must take every array that it uses as an argument.
      trees: trees of arrays whose first axis is that of the models.
      shared: trees of arrays that are the same for all models.

    Returns:
      The results of `function`, stacked along a first axis.
    """

    def map_on_device(models: Any, shared: Any) -> Any:
        def function_of_one(model: Any) -> Any:
            return function(*model, *shared)

        if jax.tree.leaves(models)[0].shape[0] == 1:  # Less for JAX and XLA to compile.
            result = function_of_one(jax.tree.map(lambda a: a[0], models))
            return jax.tree.map(lambda a: a[None], result)
        if maps_sequentially(mesh):
            return jax.lax.map(function_of_one, models)
        return jax.vmap(function_of_one)(models)

    if mesh.size == 1:
        return map_on_device(trees, shared)
    mapped = jax.shard_map(
        map_on_device,
        mesh=mesh,
        in_specs=(PartitionSpec(MODEL), PartitionSpec()),
        out_specs=PartitionSpec(MODEL),
        axis_names={MODEL},  # The axis of the examples is left to XLA.
        check_vma=False,
    )
    return mapped(trees, shared)


def maps_sequentially(mesh: Mesh) -> bool:
    """Returns whether a device computes its models one after the other.

    An accelerator computes all of them in one vectorized step. On a CPU the caches hold what one
    model needs, and vectorized steps take up to twice as long.
    """
    return is_cpu(mesh)
