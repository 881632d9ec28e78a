"""Compiles the programs of a run from shapes alone, before there are parameters or data."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.config import sweep
from cnn_jax.engine import loops, many_models, sharding
from cnn_jax.engine.argument_shapes import batch_shapes, example_shapes, with_sharding
from cnn_jax.engine.jax_options import compiler_options
from cnn_jax.engine.swept_state import create_swept_state
from cnn_jax.nn.metrics import Metrics


class ChunkSizes(NamedTuple):
    """The largest number of batches in a chunk of a stream.

    Attributes:
      train: batches of a training chunk.
      evaluate: batches of an evaluation chunk.
    """

    train: int
    evaluate: int


class JittedLoops(NamedTuple):
    """The loops of `loops`, jitted, with `mesh` bound; `train_steps` also with `batch_size`."""

    train_steps: jax.stages.Wrapped
    train_batches: jax.stages.Wrapped
    evaluate: jax.stages.Wrapped
    evaluate_batches: jax.stages.Wrapped


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled programs of a run, for its models, devices and feed.

    Attributes:
      initial_state: seeds, hyperparameters (from `sweep.seeds_and_hyperparameters`) ->
        `train.TrainState` of M models.
      epoch_permutations: seeds, epoch -> int32 [M, num_train], from `train.epoch_permutation`.
      train_steps: `loops.train_steps`; `loops.train_batches` for a stream.
      full_chunks: on accelerators, the same for a static number of steps, by that number: the one
        of `full_chunk`. Of a dynamic number XLA copies the loop's condition to the host in each
        step, and waits for it.
      evaluate: `loops.evaluate`; `loops.evaluate_batches` for a stream.
      chunk_sizes: chunks of the stream that they take; None: all examples are in device memory.
      seconds: time it took to compile them or to read them from the cache.
    """

    initial_state: jax.stages.Compiled
    epoch_permutations: jax.stages.Compiled
    train_steps: jax.stages.Compiled
    full_chunks: Mapping[int, jax.stages.Compiled]
    evaluate: jax.stages.Compiled
    chunk_sizes: ChunkSizes | None
    seconds: float

    def train(
        self, state: train.TrainState, total: Metrics, *batches: Any, num_steps: int
    ) -> loops.TrainResult:
        """Takes the steps of a chunk, with the program for its length.

        Args:
          state: state of M models; donated.
          total: metrics [M] of earlier batches.
          *batches: the arguments of the loop that say what to train on.
          num_steps: number of steps.

        Returns:
          What `loops.train_steps` returns.
        """
        if full_chunk := self.full_chunks.get(num_steps):
            return full_chunk(state, total, *batches)
        return self.train_steps(state, total, *batches, num_steps)


@functools.cache
def jitted_loops(
    deterministic: bool, mesh: Mesh, batch_size: int, num_steps: int | None = None
) -> JittedLoops:
    """Returns the loops, which compile at their first call for given shapes.

    Args:
      deterministic: as in `compiler_options`.
      mesh: from `sharding.make_mesh`.
      batch_size: training batch size, over all devices.
      num_steps: number of steps of the training loops, as a constant; None: it is an argument.
    """
    static_steps = {} if num_steps is None else {"num_steps": num_steps}
    options = compiler_options(deterministic)
    everywhere = sharding.replicated(mesh)
    train_result = (sharding.sharded_by_model(mesh), everywhere, everywhere)

    def jit(loop: Callable[..., Any], out: Any, *donated: int, **static: Any) -> jax.stages.Wrapped:
        # `jit` names a program after its function.
        bound = functools.wraps(loop)(functools.partial(loop, mesh=mesh, **static))
        return jax.jit(bound, out_shardings=out, donate_argnums=donated, compiler_options=options)

    return JittedLoops(
        jit(loops.train_steps, train_result, 0, batch_size=batch_size, **static_steps),
        jit(loops.train_batches, train_result, 0, **static_steps),
        jit(loops.evaluate, everywhere),
        jit(loops.evaluate_batches, everywhere),
    )


def compile_programs(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk_sizes: ChunkSizes | None,
    clock: Callable[[], float],
) -> Programs:
    """Compiles the programs of a run, or reads them from the compilation cache.

    Args:
      config: config checked by `schema.check`.
      info: its data set. The programs expect all examples in one array, the training examples
        before the test examples.
      mesh: from `sharding.make_mesh`.
      chunk_sizes: chunks of a stream; None: all examples are in device memory.
      clock: returns the time in seconds.
    """
    started = clock()
    seeds, hyperparameters = sweep.seeds_and_hyperparameters(config)
    traced_init = _initial_state(config, info, mesh).trace(seeds, hyperparameters)
    state = with_sharding(traced_init.out_info, sharding.sharded_by_model(mesh))
    run = config, info, mesh, chunk_sizes, state
    full_chunks = {}
    # Python traces one program while XLA, in a thread, compiles the one before, the longest first.
    with ThreadPoolExecutor() as threads:
        train_steps = threads.submit(lower_train(*run).compile)
        num_steps = full_chunk(config, info, chunk_sizes)
        # Without a loop XLA would fuse another step, with other last bits, and nothing is gained.
        if num_steps > 1 and not sharding.is_cpu(mesh):
            full_chunks[num_steps] = threads.submit(lower_train(*run, num_steps).compile)
        evaluate = threads.submit(lower_evaluate(*run).compile)
        initial_state = threads.submit(traced_init.lower().compile)
        permutations = _epoch_permutations(info.num_train, mesh).lower(seeds, 0)
        epoch_permutations = threads.submit(permutations.compile)
    return Programs(
        initial_state=initial_state.result(),
        epoch_permutations=epoch_permutations.result(),
        train_steps=train_steps.result(),
        full_chunks={steps: program.result() for steps, program in full_chunks.items()},
        evaluate=evaluate.result(),
        chunk_sizes=chunk_sizes,
        seconds=clock() - started,
    )


def full_chunk(config: ConfigDict, info: data.Info, chunk_sizes: ChunkSizes | None) -> int:
    """Returns the number of batches that most chunks of training have on accelerators.

    There a stretch of `log_every_steps` batches takes less than a second, so it is one chunk; in a
    stream, a chunk has at most `chunk_sizes.train` batches.
    """
    stretch = min(config.log_every_steps, train.steps_per_epoch(info.num_train, config.batch_size))
    return min(stretch, chunk_sizes.train) if chunk_sizes else stretch


def lower_train(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk_sizes: ChunkSizes | None,
    state: train.TrainState,
    num_steps: int | None = None,
) -> jax.stages.Lowered:
    """Lowers the training loop of a run.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      mesh: from `sharding.make_mesh`.
      chunk_sizes: as in `compile_programs`.
      state: shapes of the state, from `state_shapes`.
      num_steps: as in `jitted_loops`.
    """
    jitted = jitted_loops(config.deterministic, mesh, config.batch_size, num_steps)
    num_models = sweep.count_models(config)
    empty = jax.eval_shape(lambda: Metrics.empty(num_models))
    total = with_sharding(empty, sharding.replicated(mesh))
    steps = [0] if num_steps is None else []
    seeds, _ = sweep.seeds_and_hyperparameters(config)
    augmentation = with_sharding(
        jax.eval_shape(lambda: train.create_augmentation(config, seeds)),
        sharding.sharded_by_model(mesh),
    )
    if chunk_sizes:
        batches = batch_shapes(config, info, mesh, chunk_sizes.train, num_models)
        return jitted.train_batches.lower(state, total, augmentation, *batches, *steps)
    permutation = jax.ShapeDtypeStruct(
        (num_models, info.num_train), jnp.int32, sharding=sharding.sharded_by_model(mesh)
    )
    examples = example_shapes(info, mesh)
    return jitted.train_steps.lower(state, total, augmentation, *examples, permutation, 0, *steps)


def compile_evaluate(
    config: ConfigDict, info: data.Info, mesh: Mesh, state: train.TrainState
) -> jax.stages.Compiled:
    """Compiles `loops.evaluate` alone, for examples in device memory.

    Args:
      config: config checked by `schema.check`.
      info: description of the examples that it will be called with.
      mesh: from `sharding.make_mesh`.
      state: the state that it will be called with, or its shapes.
    """
    return lower_evaluate(config, info, mesh, None, state).compile()


def lower_evaluate(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk_sizes: ChunkSizes | None,
    state: train.TrainState,
) -> jax.stages.Lowered:
    """Lowers the evaluation loop of a run; the arguments are those of `lower_train`."""
    jitted = jitted_loops(config.deterministic, mesh, config.batch_size)
    num_models = sweep.count_models(config)
    empty = jax.eval_shape(lambda: loops.EvalMetrics.empty(num_models, config.num_models))
    total = with_sharding(empty, sharding.replicated(mesh))
    if chunk_sizes is None:
        return jitted.evaluate.lower(state, total, *example_shapes(info, mesh), 0, 0)
    batches = batch_shapes(config, info, mesh, chunk_sizes.evaluate, None)
    return jitted.evaluate_batches.lower(state, total, *batches, 0)


def state_shapes(config: ConfigDict, info: data.Info, mesh: Mesh) -> train.TrainState:
    """Returns the state of a run with shapes instead of arrays."""
    initial_state = _initial_state(config, info, mesh)
    shapes = jax.eval_shape(initial_state, *sweep.seeds_and_hyperparameters(config))
    return with_sharding(shapes, sharding.sharded_by_model(mesh))


def _initial_state(config: ConfigDict, info: data.Info, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the function, jitted, that maps seeds and hyperparameters to the initial state."""

    def initial_state(seeds: Array, hyperparameters: dict[str, Array]) -> train.TrainState:
        def create(seed: Array, hyperparameters: dict[str, Array]) -> train.TrainState:
            return create_swept_state(
                config,
                jax.random.key(seed),
                info.image_shape,
                info.num_classes,
                info.num_train,
                hyperparameters,
            )

        return many_models.map_models(mesh, create, seeds, hyperparameters)

    # It runs once, so fast code is not worth a long compilation.
    return jax.jit(
        initial_state,
        out_shardings=sharding.sharded_by_model(mesh),
        compiler_options={"xla_backend_optimization_level": 0},
    )


def _epoch_permutations(num_train: int, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns `train.epoch_permutation`, jitted, for the seeds of many models."""

    def epoch_permutations(seeds: Array, epoch: Array | int) -> Array:
        def permutation(seed: Array, epoch: Array | int) -> Array:
            return train.epoch_permutation(seed, epoch, num_train)

        return many_models.map_models(mesh, permutation, seeds, shared=(epoch,))

    return jax.jit(epoch_permutations, out_shardings=sharding.sharded_by_model(mesh))
