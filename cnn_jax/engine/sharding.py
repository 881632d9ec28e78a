"""One mesh of all devices of all processes: models along one axis, examples along the other.

The programs are written for arrays with an axis for the models and one for the examples of a batch.
`many_models.map_models` gives each device its models, `ShardedModel` its examples. A model whose
batches are split lies on each of the devices that share them, and XLA adds up the gradients.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UserError

MODEL, DATA = "model", "data"  # Names of the mesh's axes.

Index = tuple[slice, ...]  # One slice for each axis of an array.


def make_mesh(num_models: int) -> Mesh:
    """Returns a mesh of all devices, with the axes `model` and `data`.

    A model needs nothing of other devices, a part of a batch needs the sum of all gradients. So
    models are distributed first, and batches are split over the remaining factor.

    Args:
      num_models: number of models that are trained at once.

    Returns:
      A mesh of shape (gcd(num_models, devices), devices / gcd(num_models, devices)).
    """
    devices = jax.device_count()
    model = math.gcd(num_models, devices)
    shape = (model, devices // model)
    return jax.make_mesh(shape, (MODEL, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def single_device_mesh() -> Mesh:
    """Returns a mesh of this process's first device, for shapes whose placement is irrelevant."""
    return Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), (MODEL, DATA))


def is_cpu(mesh: Mesh) -> bool:
    """Returns whether the devices of a mesh are CPUs, and not accelerators."""
    return bool(mesh.devices.flat[0].platform == "cpu")


def device_names() -> list[str]:
    """Returns the names of the devices that JAX uses, such as `cpu:0 cpu`.

    Raises:
      UserError: when JAX has no device.
    """
    try:
        return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    except (RuntimeError, AssertionError) as error:
        # Where a platform is installed and has no device, JAX asserts that it has one.
        reason = str(error).partition("\n")[0] or "no platform of JAX_PLATFORMS has one"
        raise UserError(
            f"JAX has no device ({reason}): JAX_PLATFORMS and JAX_PLATFORM_NAME must name "
            "installed platforms. Change or unset them."
        ) from error


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device has."""
    return NamedSharding(mesh, PartitionSpec())


def sharded_by_model(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array whose first axis is that of the models."""
    return NamedSharding(mesh, PartitionSpec(MODEL))


def batches_sharding(mesh: Mesh, *, model_axis: bool) -> NamedSharding:
    """Returns the sharding of an array of batches, each shared as `shard_batch` says.

    Args:
      mesh: from `make_mesh`.
      model_axis: whether the array's first axis is that of the models, before that of the batches.
    """
    axes = [MODEL] * model_axis + [None] + [DATA] * (mesh.shape[DATA] > 1)
    return NamedSharding(mesh, PartitionSpec(*axes))


def batch_positions(mesh: Mesh, batch_size: int) -> Array:
    """Returns the positions 0, 1, ... in a batch that its devices share evenly.

    Returns:
      int32 [B], with B the multiple of the number of devices that is not below batch_size;
      positions >= batch_size are padding.
    """
    devices = mesh.shape[DATA]
    return jnp.arange(-(-batch_size // devices) * devices)


def shard_batch(mesh: Mesh, batch: Any, *, model_axis: bool) -> Any:
    """Constrains a batch, inside a program, to be split over the devices that share it.

    Args:
      mesh: from `make_mesh`.
      batch: tree of arrays with the axes of `batch_positions`, after the axis of the models if
        `model_axis`.
      model_axis: whether each array's first axis is that of the models.
    """
    axes = [MODEL] * model_axis + [DATA] * (mesh.shape[DATA] > 1)
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.lax.with_sharding_constraint(batch, sharding)


@dataclasses.dataclass(frozen=True)
class ShardedModel:
    """A model that each device applies to its own part of a batch, within `map_models`.

    Left to itself, XLA gathers the feature maps of all devices on each: it does not split the
    matrix products and grouped convolutions that a batch becomes. The gradient with respect to the
    parameters is the sum over the devices.

    Attributes:
      model: linen module.
    """

    model: Any

    def apply(self, variables: Any, image: Array) -> Array:
        """Computes the logits, as `model.apply` does."""
        return jax.shard_map(
            self.model.apply,
            in_specs=(PartitionSpec(), PartitionSpec(DATA)),
            out_specs=PartitionSpec(DATA),
            axis_names={DATA},
            check_vma=False,
        )(variables, image)


@dataclasses.dataclass(frozen=True)
class ShardedAugmentation:
    """An augmentation that each device applies to its own part of a batch, within `map_models`.

    Attributes:
      augmentation: `nn.augment.Augmentation`.
    """

    augmentation: Any

    def draw(self, step: Array, batch_size: int) -> Array:
        """Draws the random numbers of a batch, as `augmentation.draw` does."""
        return self.augmentation.draw(step, batch_size)

    def apply(self, image_u8: Array, label: Array, draws: Array) -> Array:
        """Changes the images, as `augmentation.apply` does."""
        return jax.shard_map(
            self.augmentation.apply,
            in_specs=PartitionSpec(DATA),
            out_specs=PartitionSpec(DATA),
            axis_names={DATA},
            check_vma=False,
        )(image_u8, label, draws)


def shard_by_model(mesh: Mesh, tree: Any) -> Any:
    """Constrains arrays, inside a program, to be split along their first axis, the models."""
    return jax.lax.with_sharding_constraint(tree, sharded_by_model(mesh))


def device_indices(array: jax.ShapeDtypeStruct | Array) -> dict[jax.Device, Index]:
    """Returns the part of a sharded array that each device of this process holds."""
    sharding = array.sharding
    assert sharding is not None
    indices = sharding.addressable_devices_indices_map(array.shape)
    return {device: index for device, index in indices.items() if index is not None}


def to_devices(tree: Any, sharding: NamedSharding) -> Any:
    """Copies arrays of the host, which are the same in every process, to the devices."""

    def copy(array: Any) -> Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(copy, tree)


def join_shards(shards: Iterable[Any], shape: jax.ShapeDtypeStruct) -> Array:
    """Makes one array of all processes from the shards of this process's devices."""
    devices = device_indices(shape)
    parts = [jax.device_put(s, device) for s, device in zip(shards, devices, strict=True)]
    return jax.make_array_from_single_device_arrays(shape.shape, shape.sharding, parts)


def to_host(tree: Any) -> Any:
    """Copies arrays to this process, whichever processes hold their parts.

    All processes must call it.
    """
    if jax.process_count() > 1:
        mesh = jax.tree.leaves(tree)[0].sharding.mesh
        tree = _replicate(mesh)(tree)
    # On CPUs `device_get` returns JAX's own memory, which the next step overwrites: hence copies.
    return jax.tree.map(np.array, jax.device_get(tree))


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[Any], Any]:
    return jax.jit(lambda t: t, out_shardings=replicated(mesh))
