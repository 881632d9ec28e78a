"""Compiles what a run needs, from shapes alone, before there are parameters or data."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.config import sweep
from cnn_jax.engine import compilation_cache, loops, sharding
from cnn_jax.nn.metrics import Metrics


class ChunkSizes(NamedTuple):
    """Of how many batches a piece of a stream consists, at most.

    Attributes:
      train: where they are trained on.
      evaluate: where they are scored.
    """

    train: int
    evaluate: int


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled programs of a run, for its networks, devices and feed.

    Attributes:
      initial_state: seeds and swept numbers, see `networks` -> `train.TrainState` of all networks.
      epoch_permutations: seeds, epoch -> int32 [M, num_train], see `train.epoch_permutation`.
      train_steps: as in `loops.Loops`; `train_batches` where data are streamed.
      evaluate: as in `loops.Loops`; `evaluate_batches` where data are streamed.
      chunk: of the stream that they take; None: they take all examples at once.
      seconds: that it took to have them.
    """

    initial_state: jax.stages.Compiled
    epoch_permutations: jax.stages.Compiled
    train_steps: jax.stages.Compiled
    evaluate: jax.stages.Compiled
    chunk: ChunkSizes | None
    seconds: float


def state_shapes(config: ConfigDict, info: data.Info, mesh: Mesh) -> train.TrainState:
    """The state of a run with shapes instead of arrays."""
    initial = _initial_state(config, info, mesh)
    shapes: train.TrainState = jax.eval_shape(initial, *sweep.seeds_and_hyperparameters(config))
    found: train.TrainState = _with_sharding(shapes, sharding.sharded_by_model(mesh))
    return found


def compile_programs(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk: ChunkSizes | None,
    clock: Callable[[], float],
) -> Programs:
    """Compiles the programs of a run, or takes them from `program_cache`.

    Args:
      config: as checked by `config.check`.
      info: of the data set, whose training and test examples the programs expect in one array, the
        training examples first.
      mesh: of `parallel.make_mesh`.
      chunk: of a stream; None: all examples are in memory.
      clock: seconds as a function of nothing.
    """
    started = clock()
    wrapped = loops.compiled_loops(config.deterministic, mesh, config.batch_size)
    seeds, swept = sweep.seeds_and_hyperparameters(config)
    drawn = _initial_state(config, info, mesh).trace(seeds, swept)
    state = _with_sharding(drawn.out_info, sharding.sharded_by_model(mesh))
    num_networks = len(seeds)
    everywhere = sharding.replicated(mesh)
    total = _with_sharding(jax.eval_shape(lambda: Metrics.empty(num_networks)), everywhere)
    if chunk is None:
        order = jax.ShapeDtypeStruct(
            (num_networks, info.num_train), jnp.int32, sharding=sharding.sharded_by_model(mesh)
        )
        examples = example_shapes(info, mesh)
        steps = wrapped.train_steps.lower(state, total, *examples, order, 0, 0)
    else:
        batches = batch_shapes(config, info, mesh, chunk.train, num_networks)
        steps = wrapped.train_batches.lower(state, total, *batches, 0)
    # Python traces one program while XLA, in a thread, compiles the one before, the longest first.
    with compilation_cache.enabled(), ThreadPoolExecutor() as threads:
        train_steps = threads.submit(steps.compile)
        evaluate = threads.submit(_lower_evaluate(config, info, mesh, chunk, state).compile)
        initial = threads.submit(drawn.lower().compile)
        orders = threads.submit(_orders(info.num_train, mesh).lower(seeds, 0).compile)
    return Programs(
        initial_state=initial.result(),
        epoch_permutations=orders.result(),
        train_steps=train_steps.result(),
        evaluate=evaluate.result(),
        chunk=chunk,
        seconds=clock() - started,
    )


def compile_evaluate(
    config: ConfigDict, info: data.Info, mesh: Mesh, state: train.TrainState
) -> jax.stages.Compiled:
    """The program `evaluate` alone, for examples in memory.

    Args:
      config: as in `compile_programs`, as are `info` and `mesh`.
      info: see there.
      mesh: see there.
      state: what it is going to be called with, or its shapes.
    """
    with compilation_cache.enabled():
        return _lower_evaluate(config, info, mesh, None, state).compile()


def _lower_evaluate(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk: ChunkSizes | None,
    state: train.TrainState,
) -> jax.stages.Lowered:
    compiled = loops.compiled_loops(config.deterministic, mesh, config.batch_size)
    empty = jax.eval_shape(
        lambda: loops.EvalMetrics.empty(sweep.count_models(config), config.num_models)
    )
    total = _with_sharding(empty, sharding.replicated(mesh))
    if chunk is None:
        return compiled.evaluate.lower(state, total, *example_shapes(info, mesh), 0, 0)
    batches = batch_shapes(config, info, mesh, chunk.evaluate, None)
    return compiled.evaluate_batches.lower(state, total, *batches, 0)


def _initial_state(config: ConfigDict, info: data.Info, mesh: Mesh) -> jax.stages.Wrapped:
    """`train.create_train_state` as a function of seeds and swept numbers, to be compiled."""

    def initial_state(seeds: Array, swept: dict[str, Array]) -> train.TrainState:
        def one(seed: Array, swept: dict[str, Array]) -> train.TrainState:
            key = jax.random.key(seed)
            return train.create_train_state(
                config, key, info.image_shape, info.num_classes, info.num_train, swept
            )

        state: train.TrainState = sharding.map_models(mesh, one, seeds, swept)
        return state

    # It runs once, so its compiler need not try hard.
    return jax.jit(
        initial_state,
        out_shardings=sharding.sharded_by_model(mesh),
        compiler_options={"xla_backend_optimization_level": 0},
    )


def _orders(num_train: int, mesh: Mesh) -> jax.stages.Wrapped:
    def orders(seeds: Array, epoch: Array | int) -> Array:
        def one(seed: Array) -> Array:
            return train.epoch_permutation(seed, epoch, num_train)

        found: Array = sharding.map_models(mesh, one, seeds)
        return found

    return jax.jit(orders, out_shardings=sharding.sharded_by_model(mesh))


def example_shapes(info: data.Info, mesh: Mesh) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of images and labels in memory, which every device has."""
    num_examples = info.num_train + info.num_test
    everywhere = sharding.replicated(mesh)
    return (
        jax.ShapeDtypeStruct((num_examples, *info.image_shape), jnp.uint8, sharding=everywhere),
        jax.ShapeDtypeStruct((num_examples,), jnp.int32, sharding=everywhere),
    )


def batch_shapes(
    config: ConfigDict, info: data.Info, mesh: Mesh, num_batches: int, num_networks: int | None
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of images and labels of a piece of a stream, as `loops` takes them.

    Args:
      config: as in `compile_programs`, as are `info` and `mesh`.
      info: see there.
      mesh: see there.
      num_batches: of the piece, at most.
      num_networks: that are trained on them, each on its own; None: all are scored on the same.
    """
    size = loops.eval_batch_size(mesh) if num_networks is None else config.batch_size
    axes = () if num_networks is None else (num_networks,)
    shape = (
        *axes,
        num_batches,
        *jax.eval_shape(lambda: sharding.batch_positions(mesh, size)).shape,
    )
    shared = sharding.batches_sharding(mesh, model_axis=num_networks is not None)
    return (
        jax.ShapeDtypeStruct((*shape, *info.image_shape), jnp.uint8, sharding=shared),
        jax.ShapeDtypeStruct(shape, jnp.int32, sharding=shared),
    )


def _with_sharding(shapes: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes)
