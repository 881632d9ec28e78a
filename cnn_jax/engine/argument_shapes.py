"""Shapes and shardings of the examples and batches that the compiled loops take."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.engine import loops, sharding


def example_shapes(info: data.Info, mesh: Mesh) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the shapes of images and labels in device memory, which every device has."""
    num_examples = info.num_train + info.num_test
    everywhere = sharding.replicated(mesh)
    return (
        jax.ShapeDtypeStruct((num_examples, *info.image_shape), jnp.uint8, sharding=everywhere),
        jax.ShapeDtypeStruct((num_examples,), jnp.int32, sharding=everywhere),
    )


def batch_shapes(
    config: ConfigDict, info: data.Info, mesh: Mesh, num_batches: int, num_models: int | None
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the shapes of images and labels of a chunk of a stream.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      mesh: from `sharding.make_mesh`.
      num_batches: largest number of batches in the chunk.
      num_models: number of models to train, each on batches of its own; None: all models are
        evaluated on the same batches.
    """
    size = loops.eval_batch_size(mesh) if num_models is None else config.batch_size
    axes = () if num_models is None else (num_models,)
    in_batch = jax.eval_shape(lambda: sharding.batch_positions(mesh, size))
    shape = (*axes, num_batches, *in_batch.shape)
    shared = sharding.batches_sharding(mesh, model_axis=num_models is not None)
    return (
        jax.ShapeDtypeStruct((*shape, *info.image_shape), jnp.uint8, sharding=shared),
        jax.ShapeDtypeStruct(shape, jnp.int32, sharding=shared),
    )


def with_sharding(shapes: Any, named: NamedSharding) -> Any:
    """Returns a tree of shapes, all with the same sharding."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=named), shapes)
