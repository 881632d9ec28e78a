"""One mesh for all devices of all processes: networks along one axis, examples along the other.

The programs are written for arrays with an axis for the networks and, where a batch is shared by
several devices, an axis for these; `jax.jit` and the shardings do the rest. A network that a batch
is split for lies on each of its devices, and XLA adds up the gradients.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UserError

MODEL, DATA = "model", "data"

Index = tuple[slice, ...]  # An index for each axis.


def make_mesh(num_networks: int) -> Mesh:
    """All devices, as many of them for different networks as divide these evenly.

    A network of its own needs nothing of other devices, a share of a batch the sum of all
    gradients: so the networks come first, and batches are split over what remains.

    Args:
      num_networks: trained at once.

    Returns:
      A mesh of shape (gcd(num_networks, devices), the rest), with the axes `model` and `data`.
    """
    device_names = jax.device_count()
    model = math.gcd(num_networks, device_names)
    shape = (model, device_names // model)
    return jax.make_mesh(shape, (MODEL, DATA), axis_types=(AxisType.Auto, AxisType.Auto))


def single_device_mesh() -> Mesh:
    """The first device of this process: for a network that is trained already."""
    return Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), (MODEL, DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """Of an array that every device has."""
    return NamedSharding(mesh, PartitionSpec())


def sharded_by_model(mesh: Mesh) -> NamedSharding:
    """Of an array whose first axis is that of the networks."""
    return NamedSharding(mesh, PartitionSpec(MODEL))


def batches_sharding(mesh: Mesh, *, model_axis: bool) -> NamedSharding:
    """Of many batches one after the other, each shared as `over_batch` says."""
    axes = [MODEL] * model_axis + [None] + [DATA] * (mesh.shape[DATA] > 1)
    return NamedSharding(mesh, PartitionSpec(*axes))


def batch_positions(mesh: Mesh, batch_size: int) -> Array:
    """The numbers 0, 1, ... of the examples of a batch, as its devices share them.

    Returns:
      int32 [batch_size] for one device, else [devices, examples of a device], where numbers from
      `batch_size` on stand for what only fills up the batch.
    """
    device_names = mesh.shape[DATA]
    if device_names == 1:
        return jnp.arange(batch_size)
    rows = -(-batch_size // device_names)
    return jnp.arange(device_names * rows).reshape(device_names, rows)


def shard_batch(mesh: Mesh, batch: Array, *, model_axis: bool) -> Array:
    """Says where the parts of a batch lie.

    Args:
      mesh: of `make_mesh`.
      batch: has the axes of `places`, and before these that of the networks if `model_axis`.
      model_axis: see there.
    """
    axes = [MODEL] * model_axis + [DATA] * (mesh.shape[DATA] > 1)
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return cast(Array, jax.lax.with_sharding_constraint(batch, sharding))


def map_models(mesh: Mesh, function: Callable[..., Any], *trees: Any) -> Any:
    """A function of one network, for all of them: on all devices at once.

    Those of one device are vectorized, or taken one after the other: see `takes_one_by_one`.

    Args:
      mesh: of `make_mesh`.
      function: of trees without the axis of the networks.
      trees: of arrays whose first axis is that of the networks.

    Returns:
      What `function` returns, with that axis.
    """
    if jax.tree.leaves(trees)[0].shape[0] == 1:  # Less for JAX and XLA to think about.
        single_device_mesh = function(*jax.tree.map(lambda a: a[0], trees))
        return jax.tree.map(lambda a: a[None], single_device_mesh)
    device_names = mesh.shape[MODEL]

    def on_device(networks: Any) -> Any:
        if maps_sequentially(mesh):
            return jax.lax.map(lambda own: function(*own), networks)
        return jax.vmap(function)(*networks)

    split = jax.tree.map(lambda a: a.reshape(device_names, -1, *a.shape[1:]), trees)
    found = jax.vmap(on_device, spmd_axis_name=MODEL)(split)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)


def maps_sequentially(mesh: Mesh) -> bool:
    """Whether a device takes its networks one after the other.

    An accelerator takes all of them in one vectorized step. On a CPU the caches hold what one
    network needs, and vectorized steps take up to twice as long.
    """
    return bool(mesh.devices.flat[0].platform == "cpu")


def device_indices(array: jax.ShapeDtypeStruct | Array) -> dict[jax.Device, Index]:
    """Which part of an array each device of this process has, or is to have."""
    sharding = array.sharding
    assert sharding is not None
    found = sharding.addressable_devices_indices_map(array.shape)
    return {device: block for device, block in found.items() if block is not None}


def to_devices(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays of the host, the same in every process, on the devices."""

    def put_one(array: Any) -> Array:
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put_one, tree)


def to_host(tree: Any) -> Any:
    """Copies of arrays in this process, of whatever processes they are spread over.

    All processes must ask for them.
    """
    if jax.process_count() > 1:
        mesh = jax.tree.leaves(tree)[0].sharding.mesh
        tree = _replicate(mesh)(tree)
    # On CPUs JAX hands out its own memory, which the next step overwrites: hence copies.
    return jax.tree.map(np.array, jax.device_get(tree))


@functools.cache
def _replicate(mesh: Mesh) -> Callable[[Any], Any]:
    return cast(Callable[[Any], Any], jax.jit(lambda t: t, out_shardings=replicated(mesh)))


def device_names() -> list[str]:
    """The accelerators, or the CPU, that JAX found."""
    try:
        return [f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()]
    except RuntimeError as error:  # JAX_PLATFORMS names one that is not there.
        raise UserError(f"JAX has no device: {error}. Change JAX_PLATFORMS.") from error
