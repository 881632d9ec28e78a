"""The interface of a feed, and the feed that keeps all examples in device memory.

`stream_feed.py` has the other one. Both give the same batches to the same arithmetic, and so the
same bits.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import numpy as np
import psutil
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.engine import loops, sharding
from cnn_jax.engine.compile import Programs
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import TrainState, create_augmentation
from cnn_jax.training.chunking import ChunkTimer

_SHARE = 0.5  # Part of a device's free memory that the examples may use; a step needs the rest.
_COPIES_ON_HOST = 3  # As read, concatenated, and as JAX's array.


class Feed(Protocol):
    """Brings the examples to the devices, and splits epochs and evaluations into chunks."""

    def train_chunks(self, done: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields (first, end) of chunks of the batches done .. end - 1 of an epoch."""

    def train(
        self, state: TrainState, total: Metrics, epoch: int, first: int, end: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes the steps first .. end - 1 of an epoch; returns what `loops.train_steps` does."""

    def eval_chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yields (first, end) of chunks of the examples start .. stop - 1 of an evaluation."""

    def evaluate(
        self, state: TrainState, total: loops.EvalMetrics, first: int, end: int
    ) -> loops.EvalMetrics:
        """Adds the metrics of the examples first .. end - 1, as `loops.evaluate` does."""


class DeviceFeed:
    """A feed of examples that lie in the memory of every device."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        mesh: Mesh,
        programs: Programs,
        examples: tuple[Array, Array],
        make_timer: Callable[[], ChunkTimer],
    ) -> None:
        """Stores its arguments.

        Args:
          config: config checked by `schema.check`.
          info: its data set.
          mesh: from `sharding.make_mesh`.
          programs: programs for config, info and mesh.
          examples: images and labels on the devices, the training examples first.
          make_timer: returns a new timer, for chunks of about a second.
        """
        self._programs, self._examples = programs, examples
        self._seeds, _ = sweep.seeds_and_hyperparameters(config)
        augmentation = create_augmentation(config, self._seeds)
        self._augmentation = sharding.to_devices(augmentation, sharding.sharded_by_model(mesh))
        self._num_train = info.num_train
        self._eval_batch_size = loops.eval_batch_size(mesh)
        self._train_timer, self._eval_timer = make_timer(), make_timer()
        self._permutation: tuple[int, Array] | None = None  # The epoch, and its permutation.

    def train_chunks(self, done: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields chunks of about a second."""
        return self._train_timer.chunks(done, end)

    def train(
        self, state: TrainState, total: Metrics, epoch: int, first: int, end: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes the steps first .. end - 1 of an epoch; returns what `loops.train_steps` does."""
        if self._permutation is None or self._permutation[0] != epoch:
            self._permutation = epoch, self._programs.epoch_permutations(self._seeds, epoch)
        batches = (self._augmentation, *self._examples, self._permutation[1], first)
        return self._programs.train(state, total, *batches, num_steps=end - first)

    def eval_chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yields chunks of about a second."""
        return self._eval_timer.chunks(start, stop, self._eval_batch_size)

    def evaluate(
        self, state: TrainState, total: loops.EvalMetrics, first: int, end: int
    ) -> loops.EvalMetrics:
        """Adds the metrics of the examples first .. end - 1, as `loops.evaluate` does."""
        return self._programs.evaluate(state, total, *self._examples, first, end)


def load_to_devices(dataset: data.Dataset, mesh: Mesh) -> tuple[Array, Array]:
    """Copies all examples, the training examples first, to every device of a single process."""
    splits = (dataset.train, dataset.test)
    image = np.concatenate([split.image for split in splits])
    label = np.concatenate([split.label for split in splits])
    return jax.device_put((image, label), sharding.replicated(mesh))


def load_sharded(source: data.Source, mesh: Mesh) -> tuple[Array, Array]:
    """Copies all examples to every device of several processes.

    Each process reads a part for its devices, which then send it to the others.

    Args:
      source: all examples.
      mesh: mesh of all processes.

    Returns:
      Images, uint8 [N, H, W, C], and labels, int32 [N], replicated.
    """
    rows = -(-len(source) // mesh.size)  # Per device; the last one may have fewer.
    split = NamedSharding(mesh, PartitionSpec((sharding.MODEL, sharding.DATA)))
    shape = (rows * mesh.size, *source.image_shape)
    image, label = [], []
    padded_shape = jax.ShapeDtypeStruct(shape, np.uint8, sharding=split)
    for device, (index, *_) in sharding.device_indices(padded_shape).items():
        indices = np.arange(shape[0])[index]
        examples = source.read(indices[indices < len(source)])
        missing = rows - len(examples.label)
        padded = np.pad(examples.image, ((0, missing), (0, 0), (0, 0), (0, 0)))
        image.append(jax.device_put(padded, device))
        label.append(jax.device_put(np.pad(examples.label, (0, missing)), device))
    parts = (
        jax.make_array_from_single_device_arrays(shape, split, image),
        jax.make_array_from_single_device_arrays(shape[:1], split, label),
    )
    everywhere = sharding.replicated(mesh)
    join = jax.jit(
        lambda *arrays: tuple(a[: len(source)] for a in arrays), out_shardings=everywhere
    )
    return join(*parts)


def fits_in_memory(info: data.Info) -> bool:
    """Returns whether all examples fit into the memory of each device of this process."""
    needed = (info.num_train + info.num_test) * (int(np.prod(info.image_shape)) + 4)
    for device in jax.local_devices():
        stats = device.memory_stats() or {}
        if limit := stats.get("bytes_limit"):
            free = limit - stats.get("bytes_in_use", 0)
        else:  # A CPU's memory is the host's, which also holds other copies.
            free = psutil.virtual_memory().available / _COPIES_ON_HOST / jax.local_device_count()
        if needed > _SHARE * free:
            return False
    return True


def check_fits(info: data.Info) -> None:
    """Checks that `dataset.feed=device` is possible.

    Raises:
      UserError: when the examples do not fit into device memory.
    """
    if not fits_in_memory(info):
        size = (info.num_train + info.num_test) * int(np.prod(info.image_shape))
        raise UserError(
            f"dataset.feed=device needs {size:.1e} bytes for the images on each device, "
            f"which must be at most {100 * _SHARE:.0f} % of the free memory there. Use "
            "dataset.feed=stream."
        )
