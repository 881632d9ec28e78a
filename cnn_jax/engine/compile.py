"""Compiles the programs of a run from shapes alone, before there are parameters or data."""

import dataclasses
import functools
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
from cnn_jax.engine import loops, many_models, sharding
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
      evaluate: `loops.evaluate`; `loops.evaluate_batches` for a stream.
      chunk_sizes: chunks of the stream that they take; None: all examples are in device memory.
      seconds: time it took to compile them or to read them from the cache.
    """

    initial_state: jax.stages.Compiled
    epoch_permutations: jax.stages.Compiled
    train_steps: jax.stages.Compiled
    evaluate: jax.stages.Compiled
    chunk_sizes: ChunkSizes | None
    seconds: float


def compiler_options(deterministic: bool) -> dict[str, bool | str]:
    """Returns XLA's options for every program; `deterministic` as in `jitted_loops`."""
    options: dict[str, bool | str] = {"xla_gpu_deterministic_ops": True} if deterministic else {}
    if jax.__version_info__ < (0, 11):
        # Before JAX 0.11 the newer CPU library for products runs a small result, such as a kernel's
        # gradient, on one core only: a step takes 5 to 20 % longer. The older one splits its sum
        # over all cores, so that its bits depend on their number. The newer library's plain sums
        # beat XLA's own.
        options["xla_cpu_experimental_ynn_fusion_type"] = "LIBRARY_FUSION_TYPE_REDUCE"
    return options


@functools.cache
def jitted_loops(deterministic: bool, mesh: Mesh, batch_size: int) -> JittedLoops:
    """Returns the loops, which compile at their first call for given shapes.

    Args:
      deterministic: forbids kernels and autotuning whose results differ between runs. It matters on
        GPUs; XLA has no such kernels elsewhere.
      mesh: from `sharding.make_mesh`.
      batch_size: training batch size, over all devices.
    """
    options = compiler_options(deterministic)
    everywhere = sharding.replicated(mesh)
    train_result = (sharding.sharded_by_model(mesh), everywhere, everywhere)

    def jit(loop: Callable[..., Any], out: Any, *donated: int, **static: Any) -> jax.stages.Wrapped:
        # `jit` names a program after its function.
        bound = functools.wraps(loop)(functools.partial(loop, mesh=mesh, **static))
        return jax.jit(bound, out_shardings=out, donate_argnums=donated, compiler_options=options)

    return JittedLoops(
        jit(loops.train_steps, train_result, 0, batch_size=batch_size),
        jit(loops.train_batches, train_result, 0),
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
    jitted = jitted_loops(config.deterministic, mesh, config.batch_size)
    seeds, hyperparameters = sweep.seeds_and_hyperparameters(config)
    traced_init = _initial_state(config, info, mesh).trace(seeds, hyperparameters)
    state = _with_sharding(traced_init.out_info, sharding.sharded_by_model(mesh))
    num_models = len(seeds)
    everywhere = sharding.replicated(mesh)
    total = _with_sharding(jax.eval_shape(lambda: Metrics.empty(num_models)), everywhere)
    if chunk_sizes is None:
        permutation = jax.ShapeDtypeStruct(
            (num_models, info.num_train), jnp.int32, sharding=sharding.sharded_by_model(mesh)
        )
        examples = example_shapes(info, mesh)
        train_steps = jitted.train_steps.lower(state, total, *examples, permutation, 0, 0)
    else:
        batches = batch_shapes(config, info, mesh, chunk_sizes.train, num_models)
        train_steps = jitted.train_batches.lower(state, total, *batches, 0)
    # Python traces one program while XLA, in a thread, compiles the one before, the longest first.
    with ThreadPoolExecutor() as threads:
        compiled_train = threads.submit(train_steps.compile)
        evaluate = _lower_evaluate(config, info, mesh, chunk_sizes, state)
        compiled_evaluate = threads.submit(evaluate.compile)
        compiled_init = threads.submit(traced_init.lower().compile)
        permutations = _epoch_permutations(info.num_train, mesh).lower(seeds, 0)
        compiled_permutations = threads.submit(permutations.compile)
    return Programs(
        initial_state=compiled_init.result(),
        epoch_permutations=compiled_permutations.result(),
        train_steps=compiled_train.result(),
        evaluate=compiled_evaluate.result(),
        chunk_sizes=chunk_sizes,
        seconds=clock() - started,
    )


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
    return _lower_evaluate(config, info, mesh, None, state).compile()


def _lower_evaluate(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk_sizes: ChunkSizes | None,
    state: train.TrainState,
) -> jax.stages.Lowered:
    jitted = jitted_loops(config.deterministic, mesh, config.batch_size)
    num_models = sweep.count_models(config)
    empty = jax.eval_shape(lambda: loops.EvalMetrics.empty(num_models, config.num_models))
    total = _with_sharding(empty, sharding.replicated(mesh))
    if chunk_sizes is None:
        return jitted.evaluate.lower(state, total, *example_shapes(info, mesh), 0, 0)
    batches = batch_shapes(config, info, mesh, chunk_sizes.evaluate, None)
    return jitted.evaluate_batches.lower(state, total, *batches, 0)


def state_shapes(config: ConfigDict, info: data.Info, mesh: Mesh) -> train.TrainState:
    """Returns the state of a run with shapes instead of arrays."""
    initial_state = _initial_state(config, info, mesh)
    shapes = jax.eval_shape(initial_state, *sweep.seeds_and_hyperparameters(config))
    return _with_sharding(shapes, sharding.sharded_by_model(mesh))


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


def _with_sharding(shapes: Any, named: NamedSharding) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=named), shapes)
