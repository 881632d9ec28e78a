"""The feed of data sets that are larger than memory: examples are read ahead, chunk by chunk.

The whole run is planned before it starts: which batches are trained on and which examples are
evaluated, in which order and in which chunks. So the worker processes that read never wait for an
epoch to end, and each process of a cluster reads only what its own devices need.
"""

import contextlib
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
from cnn_jax.engine.argument_shapes import batch_shapes
from cnn_jax.engine.compile import ChunkSizes, Programs
from cnn_jax.errors import translate_errors
from cnn_jax.io.environment import free_shared_memory, num_cores
from cnn_jax.io.files import write_atomically
from cnn_jax.nn.metrics import Metrics
from cnn_jax.train import TrainState
from cnn_jax.training import schedule
from cnn_jax.training.schedule import Evaluate, TrainBatches

_CHUNK_BYTES = 2**22  # Large enough that a call costs nothing, small enough to be read soon.
_MAX_WORKERS = 8


class Chunk(NamedTuple):
    """The batches or examples of one call of a compiled loop.

    Attributes:
      epoch: epoch whose batches are trained on; 0 for an evaluation.
      first: first batch of the epoch, or first example of the evaluation.
      end: one after the last.
    """

    epoch: int
    first: int
    end: int


def chunk_sizes(config: ConfigDict, info: data.Info, mesh: Mesh) -> ChunkSizes:
    """Returns the largest number of batches in a chunk."""
    examples = _CHUNK_BYTES // int(np.prod(info.image_shape))
    batch_of_all_models = config.batch_size * sweep.count_models(config)
    return ChunkSizes(
        max(1, min(config.log_every_steps, examples // batch_of_all_models)),
        max(1, examples // loops.eval_batch_size(mesh)),
    )


def _split_range(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def plan_chunks(
    config: ConfigDict, info: data.Info, step: int, sizes: ChunkSizes, eval_batch_size: int
) -> list[Chunk]:
    """Returns the chunks of a run, in the order of its actions.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      step: number of steps already taken.
      sizes: from `chunk_sizes`.
      eval_batch_size: from `loops.eval_batch_size`.
    """
    chunks: list[Chunk] = []
    for action in schedule.actions(config, info, step):
        match action:
            case TrainBatches(epoch, first, end):
                chunks += [Chunk(epoch, *r) for r in _split_range(first, end, sizes.train)]
            case Evaluate(_, _, start, stop):
                size = sizes.evaluate * eval_batch_size
                chunks += [Chunk(0, *r) for r in _split_range(start, stop, size)]
    return chunks


class _ShardLayout(NamedTuple):
    """How the batches of a chunk are shared by the devices.

    Attributes:
      positions: from `sharding.batch_positions`.
      batch_size: positions >= batch_size are padding.
      indices: for each device of this process its part of an array [M, batches, *positions], or
        [batches, *positions] for an evaluation.
    """

    positions: npt.NDArray[np.integer[Any]]
    batch_size: int
    indices: Sequence[sharding.Index]


class _ChunkIndices:
    """The examples of each chunk: int32 [devices of this process, ...], -1 for padding."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        sizes: ChunkSizes,
        train_layout: _ShardLayout,
        eval_layout: _ShardLayout,
        permutations: Path,
        num_models: int,
    ) -> None:
        self._chunks, self._sizes = chunks, sizes
        self._train_layout, self._eval_layout = train_layout, eval_layout
        self._permutations, self._num_models = permutations, num_models

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, number: int) -> npt.NDArray[np.int32]:
        epoch, first, end = self._chunks[number]
        layout = self._train_layout if epoch else self._eval_layout
        inner = [1] * layout.positions.ndim
        if epoch:
            batch = first + np.arange(self._sizes.train).reshape(-1, *inner)
            position = batch * layout.batch_size + layout.positions
            mask = (layout.positions < layout.batch_size) & (batch < end)
            permutation = self._permutation(epoch)
            mask &= position < permutation.shape[1]
            examples = np.where(mask, permutation[:, np.where(mask, position, 0)], -1)
        else:
            batch = np.arange(self._sizes.evaluate).reshape(-1, *inner)
            position = first + batch * layout.batch_size + layout.positions
            examples = np.where(position < end, position, -1)
        return np.stack([examples[index] for index in layout.indices]).astype(np.int32)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int32]:
        """Returns int32 [M, num_train]; waits until the training process has written it."""
        path = permutation_path(self._permutations, epoch)
        while not path.exists():
            path.parent.stat()  # Raises when the run has ended, so that no worker waits forever.
            time.sleep(0.01)
        return np.memmap(path, np.int32, "r").reshape(self._num_models, -1)


def permutation_path(folder: Path, epoch: int) -> Path:
    """Returns the file in which the workers find the permutation of an epoch."""
    return folder / str(epoch)


class StreamFeed:
    """A feed of examples that are read ahead; must be closed."""

    def __init__(
        self,
        config: ConfigDict,
        info: data.Info,
        mesh: Mesh,
        programs: Programs,
        source: data.Source,
        step: int,
    ) -> None:
        """Starts to read.

        Args:
          config: config checked by `schema.check`.
          info: its data set.
          mesh: from `sharding.make_mesh`.
          programs: programs for config, info, mesh and their `chunk_sizes`.
          source: all examples, the training examples first.
          step: number of steps already taken.
        """
        self._programs = programs
        self._seeds, _ = sweep.seeds_and_hyperparameters(config)
        augmentation = train.create_augmentation(config, self._seeds)
        self._augmentation = sharding.to_devices(augmentation, sharding.sharded_by_model(mesh))
        self._num_train = info.num_train
        assert programs.chunk_sizes
        self._sizes = programs.chunk_sizes
        self._eval_batch_size = loops.eval_batch_size(mesh)
        chunks = plan_chunks(config, info, step, self._sizes, self._eval_batch_size)
        num_models = sweep.count_models(config)
        self._train_shapes = batch_shapes(config, info, mesh, self._sizes.train, num_models)
        self._eval_shapes = batch_shapes(config, info, mesh, self._sizes.evaluate, None)
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(
                prefix="cnn_jax-permutations-",
                # Windows deletes no file that a thread still reads.
                ignore_cleanup_errors=True,
            )
            self._permutations = Path(stack.enter_context(folder))
            indices = _ChunkIndices(
                chunks,
                self._sizes,
                _shard_layout(mesh, config.batch_size, self._train_shapes[1]),
                _shard_layout(mesh, self._eval_batch_size, self._eval_shapes[1]),
                self._permutations,
                num_models,
            )
            num_workers = _num_workers(self._train_shapes, self._eval_shapes)
            prefetched = stack.enter_context(data.prefetch(source, indices, num_workers))
            self._prefetched = zip(chunks, prefetched, strict=True)
            self._epochs = sorted({chunk.epoch for chunk in chunks} - {0})
            self._write_permutations()
            self._ahead = self._next()
            self._stack = stack.pop_all()  # From here on `close` ends all of it.

    def train_chunks(self, done: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields the planned chunks of a stretch of batches."""
        return _split_range(done, end, self._sizes.train)

    def train(
        self, state: TrainState, total: Metrics, epoch: int, first: int, end: int
    ) -> tuple[TrainState, Metrics, Metrics]:
        """Takes the steps first .. end - 1 of an epoch; returns what `loops.train_batches` does."""
        if self._epochs and self._epochs[0] <= epoch:
            self._epochs = [later for later in self._epochs if later > epoch]
            self._write_permutations()
        batches = (self._augmentation, *self._take(Chunk(epoch, first, end)))
        result = self._programs.train(state, total, *batches, num_steps=end - first)
        self._ahead = self._next()  # While the devices compute.
        return result

    def eval_chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yields the planned chunks of an evaluation."""
        return _split_range(start, stop, self._sizes.evaluate * self._eval_batch_size)

    def evaluate(
        self, state: TrainState, total: loops.EvalMetrics, first: int, end: int
    ) -> loops.EvalMetrics:
        """Adds the metrics of the examples first .. end - 1, as `loops.evaluate_batches` does."""
        batches = self._take(Chunk(0, first, end))
        num_batches = -(-(end - first) // self._eval_batch_size)
        metrics = self._programs.evaluate(state, total, *batches, num_batches)
        self._ahead = self._next()  # While the devices compute.
        return metrics

    def close(self) -> None:
        """Stops the workers."""
        self._stack.close()

    def _take(self, chunk: Chunk) -> tuple[Array, Array]:
        assert self._ahead
        planned, image, label = self._ahead
        assert planned == chunk, f"{chunk} was requested, {planned} was planned"
        return image, label

    def _next(self) -> tuple[Chunk, Array, Array] | None:
        """Sends the next chunk to the devices; None after the last one."""
        chunk, examples = next(self._prefetched, (None, None))
        if chunk is None or examples is None:
            return None
        image, label = self._train_shapes if chunk.epoch else self._eval_shapes
        join = sharding.join_shards
        return chunk, join(examples.image, image), join(examples.label, label)

    def _write_permutations(self) -> None:
        """Writes the permutations of this epoch and the next one, for the workers.

        Raises:
          UserError: when a file cannot be written.
        """
        for epoch in self._epochs[:2]:
            path = permutation_path(self._permutations, epoch)
            if path.exists():
                continue
            rows = [train.epoch_permutation(int(s), epoch, self._num_train) for s in self._seeds]
            with translate_errors(
                f"cannot write {path}",
                "the folder for temporary files must have room for the permutations of two epochs. "
                "Free space, or set TMPDIR.",
            ):
                write_atomically(path, np.stack(rows).tobytes())
            permutation_path(self._permutations, epoch - 2).unlink(missing_ok=True)


def _num_workers(*chunk_shapes: tuple[jax.ShapeDtypeStruct, ...]) -> int:
    """Returns how many processes read: decoding an image takes longer than training on it.

    Where the memory that processes share is too small for one, it is 0: a thread reads.

    Args:
      chunk_shapes: shapes of the arrays of each kind of chunk.
    """
    sizes = [sum(a.size * a.dtype.itemsize for a in arrays) for arrays in chunk_shapes]
    bytes_per_worker = data.MAX_ELEMENTS_AHEAD * max(sizes)
    # Half of it, since another run may start on this host.
    room = free_shared_memory() // 2 // jax.process_count()
    return min(_MAX_WORKERS, num_cores(), room // bytes_per_worker)


def _shard_layout(mesh: Mesh, batch_size: int, shape: jax.ShapeDtypeStruct) -> _ShardLayout:
    positions = np.asarray(sharding.batch_positions(mesh, batch_size))
    return _ShardLayout(positions, batch_size, list(sharding.device_indices(shape).values()))
