"""The feed of data sets that are larger than memory: what a run is going to need is read ahead.

The whole run is planned before it begins: which batches are trained on and which examples are
scored, in which order and in which pieces. So the processes that read never wait for an epoch to
end, and each process of a cluster reads just what its own devices need.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax import Array
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.config import sweep
from cnn_jax.engine import loops, sharding
from cnn_jax.engine.compile import ChunkSizes, Programs, batch_shapes
from cnn_jax.errors import UserError
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import TrainState

_CHUNK_BYTES = 2**22  # Of a piece: so much that a call costs nothing, so little that it soon comes.
_MAX_WORKERS = 8


class Chunk(NamedTuple):
    """What one call of a compiled loop is given.

    Attributes:
      epoch: whose batches are trained on; 0: examples are scored.
      first: first batch of the epoch, or first example.
      end: one after the last.
    """

    epoch: int
    first: int
    end: int


def chunk_sizes(config: ConfigDict, info: data.Info, mesh: Mesh) -> ChunkSizes:
    """Of how many batches a piece consists, at most."""
    examples = _CHUNK_BYTES // int(np.prod(info.image_shape))
    of_all_networks = config.batch_size * sweep.count_models(config)
    return ChunkSizes(
        max(1, min(config.log_every_steps, examples // of_all_networks)),
        max(1, examples // loops.eval_batch_size(mesh)),
    )


def _cut(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def plan_chunks(
    config: ConfigDict, info: data.Info, step: int, chunk: ChunkSizes, eval_size: int
) -> list[Chunk]:
    """The pieces of a run, as `trainer.Trainer` asks for them.

    Args:
      config: as checked by `config.check`.
      info: of its data set.
      step: steps taken already.
      chunk: of `chunk_of`.
      eval_size: of `loops.eval_batch_size`.
    """
    num_batches = train.steps_per_epoch(info.num_train, config.batch_size)
    every, scored = config.log_every_steps, chunk.evaluate * eval_size
    pieces = []
    for epoch in range(max(1, -(-step // num_batches)), config.num_epochs + 1):
        done = max(0, step - (epoch - 1) * num_batches)
        while done < num_batches:
            row_end = min(done - done % every + every, num_batches)
            pieces += [Chunk(epoch, *ends) for ends in _cut(done, row_end, chunk.train)]
            done = row_end
        pieces += [Chunk(0, *ends) for ends in _cut(0, info.num_train, scored)]
    examples = info.num_train, info.num_train + info.num_test
    return pieces + [Chunk(0, *ends) for ends in _cut(*examples, scored)]


class _ShardLayout(NamedTuple):
    """The shape of a piece, and which parts of it this process has to have, one for each device.

    Attributes:
      numbers: of the examples in a batch, see `parallel.places`.
      batch_size: from which on they stand for filler.
      blocks: into an array [networks, batches, *places], or [batches, *places] for a scoring.
    """

    numbers: npt.NDArray[np.integer[Any]]
    batch_size: int
    blocks: Sequence[sharding.Index]


class _ChunkIndices:
    """The examples of each piece, int32 [devices of this process, ...]; -1 stands for filler."""

    def __init__(
        self,
        pieces: Sequence[Chunk],
        chunk: ChunkSizes,
        trained: _ShardLayout,
        scored: _ShardLayout,
        orders: Path,
        num_networks: int,
    ) -> None:
        self._pieces, self._chunk = pieces, chunk
        self._trained, self._scored = trained, scored
        self._orders, self._num_networks = orders, num_networks

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, number: int) -> npt.NDArray[np.int32]:
        epoch, first, end = self._pieces[number]
        places = self._trained if epoch else self._scored
        inner = [1] * places.numbers.ndim
        if epoch:
            batch = first + np.arange(self._chunk.train).reshape(-1, *inner)
            position = batch * places.batch_size + places.numbers
            real = (places.numbers < places.batch_size) & (batch < end)
            order = self._order(epoch)
            real &= position < order.shape[1]
            whole = np.where(real, order[:, np.where(real, position, 0)], -1)
        else:
            batch = np.arange(self._chunk.evaluate).reshape(-1, *inner)
            position = first + batch * places.batch_size + places.numbers
            whole = np.where(position < end, position, -1)
        return np.stack([whole[block] for block in places.blocks]).astype(np.int32)

    def _order(self, epoch: int) -> npt.NDArray[np.int32]:
        """int32 [networks, num_train]; whoever reads ahead may have to wait for it."""
        path = permutation_path(self._orders, epoch)
        while not path.exists():
            path.parent.stat()  # Raises where the run is over: nobody waits for what never comes.
            time.sleep(0.01)
        return np.memmap(path, np.int32, "r").reshape(self._num_networks, -1)


def permutation_path(folder: Path, epoch: int) -> Path:
    """Where the processes that read find the order of an epoch."""
    return folder / str(epoch)


class StreamFeed:
    """The examples come as they are needed; to be closed."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        mesh: Mesh,
        programs: Programs,
        source: data.Source,
        step: int,
    ) -> None:
        """Begins to read.

        Args:
          config: as checked by `config.check`.
          info: of the data set.
          mesh: of `parallel.make_mesh`.
          programs: for them, and for `chunk_of` them.
          source: of all examples, the training examples first.
          step: steps taken already.
        """
        self._programs, self._config = programs, config
        self._num_train = info.num_train
        self._chunk = chunk_sizes(config, info, mesh)
        self._eval_size = loops.eval_batch_size(mesh)
        pieces = plan_chunks(config, info, step, self._chunk, self._eval_size)
        count = sweep.count_models(config)
        self._trained = batch_shapes(config, info, mesh, self._chunk.train, count)
        self._scored = batch_shapes(config, info, mesh, self._chunk.evaluate, None)
        with contextlib.ExitStack() as stack:
            self._orders = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="cnn_jax-orders-"))
            )
            wanted = _ChunkIndices(
                pieces,
                self._chunk,
                _shard_layout(mesh, config.batch_size, self._trained[1]),
                _shard_layout(mesh, self._eval_size, self._scored[1]),
                self._orders,
                count,
            )
            splits = stack.enter_context(data.prefetch(source, wanted, _num_workers()))
            self._splits = zip(pieces, splits, strict=True)
            self._epochs = sorted({piece.epoch for piece in pieces} - {0})
            self._write_orders()
            self._ahead = self._next()
            self._ends = stack.pop_all()  # Now nothing can fail any more: `close` ends all of it.

    def train_chunks(self, done: int, end: int) -> Iterator[tuple[int, int]]:
        """See `feed.Feed`."""
        return _cut(done, end, self._chunk.train)

    def train(
        self, state: TrainState, total: Metrics, epoch: int, first: int, end: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """See `feed.Feed`."""
        if self._epochs and self._epochs[0] <= epoch:
            self._epochs = [later for later in self._epochs if later > epoch]
            self._write_orders()
        batches = self._take(Chunk(epoch, first, end))
        found: tuple[TrainState, Metrics, Metrics] = self._programs.train_steps(
            state, total, *batches, end - first
        )
        self._ahead = self._next()  # While the devices compute.
        return found

    def eval_chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """See `feed.Feed`."""
        return _cut(start, stop, self._chunk.evaluate * self._eval_size)

    def score(
        self, state: TrainState, total: loops.EvalMetrics, first: int, end: int
    ) -> loops.EvalMetrics:
        """See `feed.Feed`."""
        batches = self._take(Chunk(0, first, end))
        num_batches = -(-(end - first) // self._eval_size)
        found: loops.EvalMetrics = self._programs.evaluate(state, total, *batches, num_batches)
        self._ahead = self._next()
        return found

    def close(self) -> None:
        """Ends all reading."""
        self._ends.close()

    def _take(self, piece: Chunk) -> tuple[Array, Array]:
        assert self._ahead
        planned, *batches = self._ahead
        assert planned == piece, f"{piece} is asked for, {planned} was planned"
        image, label = batches
        return image, label

    def _next(self) -> tuple[Chunk, Array, Array] | None:
        """The next piece, on its way to the devices."""
        piece, split = next(self._splits, (None, None))
        if piece is None or split is None:
            return None
        image, label = self._trained if piece.epoch else self._scored
        return piece, _on_devices(split.image, image), _on_devices(split.label, label)

    def _write_orders(self) -> None:
        """Writes the orders of this epoch and the next one, for those who read ahead."""
        seeds, _ = sweep.seeds_and_hyperparameters(self._config)
        for epoch in self._epochs[:2]:
            path = permutation_path(self._orders, epoch)
            if not path.exists():
                orders = [train.epoch_permutation(int(s), epoch, self._num_train) for s in seeds]
                self._write(path, np.stack(orders).tobytes())
                permutation_path(self._orders, epoch - 2).unlink(missing_ok=True)

    def _write(self, path: Path, content: bytes) -> None:
        """Writes a file, whole or not at all."""
        unfinished = path.with_suffix(".tmp")
        try:
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}): allowed is a folder for temporary "
                "files with room for the orders of two epochs. Make room, or set TMPDIR."
            ) from error


def _num_workers() -> int:
    """Processes that read: to decode an image takes longer than to train a small network on it."""
    mine = getattr(os, "sched_getaffinity", None)  # Where a scheduler gives a process some cores.
    return min(_MAX_WORKERS, len(mine(0)) if mine else os.cpu_count() or 1)


def _shard_layout(mesh: Mesh, batch_size: int, shape: jax.ShapeDtypeStruct) -> _ShardLayout:
    numbers = np.asarray(sharding.batch_positions(mesh, batch_size))
    return _ShardLayout(numbers, batch_size, list(sharding.device_indices(shape).values()))


def _on_devices(blocks: npt.NDArray[Any], shape: jax.ShapeDtypeStruct) -> Array:
    """What each device of this process has to have, as its part of one array of all processes."""
    devices = sharding.device_indices(shape)
    parts = [jax.device_put(b, device) for b, device in zip(blocks, devices, strict=True)]
    return jax.make_array_from_single_device_arrays(shape.shape, shape.sharding, parts)
