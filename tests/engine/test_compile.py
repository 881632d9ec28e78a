"""The programs that a run compiles, and the one that takes the steps of a chunk."""

import time
from typing import Any, cast

import chex
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.config import schema, sweep
from cnn_jax.engine import compile, sharding
from cnn_jax.engine.compile import ChunkSizes, Programs
from cnn_jax.nn.metrics import Metrics
from tests.support.small import small_config


def compile_small() -> Programs:
    config = small_config()
    mesh = sharding.single_device_mesh()
    return compile.compile_programs(config, schema.check(config), mesh, None, time.perf_counter)


def test_cpus_have_one_training_program() -> None:
    assert compile_small().full_chunks == {}


def test_full_chunks_have_a_program_of_their_own_on_accelerators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharding, "is_cpu", lambda mesh: False)
    programs = compile_small()
    (num_steps,) = programs.full_chunks
    assert num_steps == 2  # log_every_steps
    config = small_config()
    digits = data.load(**config.dataset)
    image = np.concatenate([digits.train.image, digits.test.image])
    label = np.concatenate([digits.train.label, digits.test.label])
    batches = None, image, label, jnp.arange(70)[None], 1

    def start() -> tuple[Any, Metrics]:
        state = programs.initial_state(*sweep.seeds_and_hyperparameters(config))
        return state, Metrics.empty(1)

    trained = programs.train(*start(), *batches, num_steps=2)
    chex.assert_trees_all_equal(trained, programs.train_steps(*start(), *batches, 2))
    # Batches 1 and 2 of 16 images each. The other program takes any other number of steps.
    assert trained[1].count == 32
    assert programs.train(*start(), *batches, num_steps=3)[1].count == 48


@pytest.mark.parametrize(
    ("log_every_steps", "chunk_sizes", "expected"),
    [
        (2, None, 2),
        (9, None, 5),  # An epoch of 70 images has 5 batches of 16.
        (3, ChunkSizes(2, 1), 2),
        (3, ChunkSizes(4, 1), 3),
    ],
)
def test_full_chunk_is_the_longest_chunk_of_training(
    log_every_steps: int, chunk_sizes: ChunkSizes | None, expected: int
) -> None:
    config = small_config(log_every_steps=log_every_steps)
    assert compile.full_chunk(config, schema.check(config), chunk_sizes) == expected


@pytest.mark.parametrize(("num_steps", "program"), [(2, "full chunk"), (1, "any"), (3, "any")])
def test_chunk_is_taken_by_the_program_for_its_length(num_steps: int, program: str) -> None:
    def full_chunk(*arguments: Any) -> Any:
        return "full chunk", arguments

    def train_steps(*arguments: Any) -> Any:
        *others, steps = arguments
        assert steps == num_steps
        return "any", tuple(others)

    programs: Any = Programs(
        initial_state=cast(Any, None),
        epoch_permutations=cast(Any, None),
        train_steps=cast(Any, train_steps),
        full_chunks=cast(Any, {2: full_chunk}),
        evaluate=cast(Any, None),
        chunk_sizes=None,
        seconds=0.0,
    )
    arguments = "state", "total", "permutation"
    assert programs.train(*arguments, num_steps=num_steps) == (program, arguments)
