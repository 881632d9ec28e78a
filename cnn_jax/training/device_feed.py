"""How the examples come to the devices: all at once, before the first step, or as they are needed.

Both feeds give the same batches to the same arithmetic, so the same bits.
"""

import os
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.engine import compilation_cache, loops, sharding
from cnn_jax.engine.compile import Programs
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import TrainState
from cnn_jax.training.chunking import ChunkTimer

_SHARE = 0.5  # Of a device's free memory that the examples may take: a step needs some as well.
_COPIES_ON_HOST = 3  # As read, joined into one array, and as JAX holds it.


class Feed(Protocol):
    """Takes pieces of an epoch or of a scoring, of as many steps as it likes."""

    def train_chunks(self, done: int, end: int) -> Iterator[tuple[int, int]]:
        """Cuts the batches done .. end - 1 of an epoch into pieces, and takes the time of each."""

    def train(
        self, state: TrainState, total: Metrics, epoch: int, first: int, end: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """The steps first .. end - 1 of an epoch; see `loops.Loops.train_steps`."""

    def eval_chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cuts the examples start .. stop - 1 into pieces, and takes the time of each."""

    def score(
        self, state: TrainState, total: loops.EvalMetrics, first: int, end: int
    ) -> loops.EvalMetrics:
        """Scores the examples first .. end - 1; see `loops.Loops.evaluate`."""


class DeviceFeed:
    """All examples lie in the memory of every device."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        mesh: Mesh,
        programs: Programs,
        examples: tuple[Array, Array],
        pace: Callable[[], ChunkTimer],
    ) -> None:
        """Takes no time.

        Args:
          config: as checked by `config.check`.
          info: of the data set.
          mesh: of `parallel.make_mesh`.
          programs: for them.
          examples: images and labels on the devices, the training examples first.
          pace: makes one, for pieces of about a second.
        """
        self._programs, self._examples = programs, examples
        self._seeds, _ = sweep.seeds_and_hyperparameters(config)
        self._num_train = info.num_train
        self._eval_batch_size = loops.eval_batch_size(mesh)
        self._train_pace, self._score_pace = pace(), pace()
        self._order: tuple[int, Array] | None = None  # Of which epoch, and the order.

    def train_chunks(self, done: int, end: int) -> Iterator[tuple[int, int]]:
        """See `Feed`."""
        return self._train_pace.chunks(done, end)

    def train(
        self, state: TrainState, total: Metrics, epoch: int, first: int, end: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """See `Feed`."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self._programs.epoch_permutations(self._seeds, epoch)
        found: tuple[TrainState, Metrics, Metrics] = self._programs.train_steps(
            state, total, *self._examples, self._order[1], first, end - first
        )
        return found

    def eval_chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """See `Feed`."""
        return self._score_pace.chunks(start, stop, self._eval_batch_size)

    def score(
        self, state: TrainState, total: loops.EvalMetrics, first: int, end: int
    ) -> loops.EvalMetrics:
        """See `Feed`."""
        found: loops.EvalMetrics = self._programs.evaluate(
            state, total, *self._examples, first, end
        )
        return found


def load_to_devices(dataset: data.Dataset, mesh: Mesh) -> tuple[Array, Array]:
    """All examples, training first, on every device of this process alone."""
    parts = (dataset.train, dataset.test)
    image = np.concatenate([part.image for part in parts])
    label = np.concatenate([part.label for part in parts])
    found: tuple[Array, Array] = jax.device_put((image, label), sharding.replicated(mesh))
    return found


def load_sharded(source: data.Source, mesh: Mesh) -> tuple[Array, Array]:
    """The same, where each process reads a share for its devices, which then give it to the others.

    Args:
      source: of all examples.
      mesh: over all processes.
    """
    rows = -(-len(source) // mesh.size)  # Of a device; the last one may have fewer.
    along = NamedSharding(mesh, PartitionSpec((sharding.MODEL, sharding.DATA)))
    shape = (rows * mesh.size, *source.image_shape)
    image, label = [], []
    whole_shape = jax.ShapeDtypeStruct(shape, np.uint8, sharding=along)
    for device, (index, *_) in sharding.device_indices(whole_shape).items():
        wanted = np.arange(shape[0])[index]
        found = source.read(wanted[wanted < len(source)])
        missing = rows - len(found.label)
        padded = np.pad(found.image, ((0, missing), (0, 0), (0, 0), (0, 0)))
        image.append(jax.device_put(padded, device))
        label.append(jax.device_put(np.pad(found.label, (0, missing)), device))
    whole = (
        jax.make_array_from_single_device_arrays(shape, along, image),
        jax.make_array_from_single_device_arrays(shape[:1], along, label),
    )
    everywhere = sharding.replicated(mesh)
    join = jax.jit(
        lambda *arrays: tuple(a[: len(source)] for a in arrays), out_shardings=everywhere
    )
    with compilation_cache.enabled():
        joined: tuple[Array, Array] = join(*whole)
    return joined


def fits_in_memory(info: data.Info) -> bool:
    """Whether all examples fit into the memory of each device of this process."""
    needed = (info.num_train + info.num_test) * (int(np.prod(info.image_shape)) + 4)
    for device in jax.local_devices():
        stats = device.memory_stats() or {}
        if limit := stats.get("bytes_limit"):
            free = limit - stats.get("bytes_in_use", 0)
        else:  # A CPU: its memory is the host's, which has copies of its own.
            free = _host_memory() / _COPIES_ON_HOST / jax.local_device_count()
        if needed > _SHARE * free:
            return False
    return True


def check_fits(info: data.Info) -> None:
    """Refuses `dataset.feed=device` where that cannot go well.

    Raises:
      UserError: when the examples do not fit.
    """
    if not fits_in_memory(info):
        size = (info.num_train + info.num_test) * int(np.prod(info.image_shape))
        raise UserError(
            f"dataset.feed=device needs {size:.1e} bytes for the images on each device, more than "
            f"{100 * _SHARE:.0f} % of what is free there: allowed is what fits. Use "
            "dataset.feed=stream."
        )


def _host_memory() -> int:
    """Bytes of main memory that are free, or can be made so."""
    try:
        with open("/proc/meminfo") as file:  # noqa: PTH123
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # Not Linux.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
