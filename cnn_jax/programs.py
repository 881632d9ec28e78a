"""Compiles what a run needs, from shapes alone, before there are parameters or data."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cnn_jax import data, program_cache, train
from cnn_jax.metrics import Metrics


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled programs of a run.

    Attributes:
      initial_state: key -> `train.TrainState`.
      train_steps: as in `train.Loops`, without its static argument.
      evaluate: as in `train.Loops`.
      seconds: that it took to have them.
    """

    initial_state: jax.stages.Compiled
    train_steps: jax.stages.Compiled
    evaluate: jax.stages.Compiled
    seconds: float


def state_shapes(config: ConfigDict, info: data.Info) -> train.TrainState:
    """The state of a run with shapes instead of arrays."""
    shapes: train.TrainState = jax.eval_shape(_initial_state(config, info), _key(config))
    return shapes


def compile_programs(config: ConfigDict, info: data.Info, clock: Callable[[], float]) -> Programs:
    """Compiles the programs of a run, or takes them from `program_cache`.

    Args:
      config: as checked by `config.check`.
      info: of the data set, whose training and test examples the programs expect in one array, the
        training examples first.
      clock: seconds as a function of nothing.
    """
    started = clock()
    initial = _initial_state(config, info)
    state = jax.eval_shape(initial, _key(config))
    loops = train.compiled_loops(config.deterministic)
    order = jax.ShapeDtypeStruct((info.num_train,), jnp.int32)
    total, *examples = _arguments(info)
    # Python traces one program while XLA, in a thread, compiles the one before, the longest first.
    with program_cache.in_use(), ThreadPoolExecutor() as threads:
        train_steps = threads.submit(
            loops.train_steps.lower(state, total, *examples, order, 0, 0, config.batch_size).compile
        )
        evaluate = threads.submit(loops.evaluate.lower(state, total, *examples, 0, 0).compile)
        drawn = threads.submit(initial.lower(_key(config)).compile)
        train.epoch_order(config.seed, 1, info.num_train)  # Compiles as it runs, and is soon done.
    return Programs(drawn.result(), train_steps.result(), evaluate.result(), clock() - started)


def compile_evaluate(config: ConfigDict, info: data.Info) -> jax.stages.Compiled:
    """The program `evaluate` alone; arguments as in `compile_programs`."""
    loops = train.compiled_loops(config.deterministic)
    with program_cache.in_use():
        return loops.evaluate.lower(state_shapes(config, info), *_arguments(info), 0, 0).compile()


def _key(config: ConfigDict) -> jax.Array:
    return jax.random.key(config.seed)


def _initial_state(config: ConfigDict, info: data.Info) -> jax.stages.Wrapped:
    """`train.create_train_state` as a function of the key, to be compiled."""

    def initial_state(key: jax.Array) -> train.TrainState:
        return train.create_train_state(
            config, key, info.image_shape, info.num_classes, info.num_train
        )

    # It runs once, so its compiler need not try hard.
    return jax.jit(initial_state, compiler_options={"xla_backend_optimization_level": 0})


def _arguments(info: data.Info) -> tuple[Any, jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes of what every loop takes: metrics, images and labels."""
    num_examples = info.num_train + info.num_test
    return (
        jax.eval_shape(Metrics.empty),
        jax.ShapeDtypeStruct((num_examples, *info.image_shape), jnp.uint8),
        jax.ShapeDtypeStruct((num_examples,), jnp.int32),
    )
