"""Tests that the environment variables of JAX change no result of the program."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from cnn_jax import create_train_state, data, epoch_permutation, eval_step, train_step
from cnn_jax.engine import jax_options
from cnn_jax.errors import UserError
from tests.support.command_line import error_line, run_main
from tests.support.small import small_config

SMALL = (
    "--config=configs/digits.py",
    "--config.dataset.train_split=train[:64]",
    "--config.num_epochs=1",
)
IGNORED = {
    "JAX_DEBUG_INFS": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEFAULT_DEVICE": "gpu",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_DISABLE_JIT": "1",
    "JAX_ENABLE_X64": "1",
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN": "raise",
    "JAX_NO_EXECUTION": "1",
    "JAX_NO_TRACING": "1",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_TRANSFER_GUARD": "disallow",
}


def test_results_do_not_depend_on_the_environment(tmp_path: Path) -> None:
    results = []
    for name, environment in (("plain", {}), ("hostile", IGNORED)):
        workdir = tmp_path / name
        trained = run_main(*SMALL, f"--workdir={workdir}", **environment)
        evaluated = run_main("--mode=evaluate", f"--workdir={workdir}", **environment)
        for done in (trained, evaluated):
            assert done.returncode == 0, done.stderr
            assert sorted(done.stderr.splitlines()) == [
                f"warning: {variable}={value} is ignored: results must not depend on it"
                for variable, value in environment.items()
            ]
        sha256 = json.loads((workdir / "result.json").read_text())["params_sha256"]
        results.append((sha256, evaluated.stdout.replace(str(workdir), "")))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JAX_PLATFORMS", "nothing"),
        ("JAX_PLATFORM_NAME", "gpu"),
        ("JAX_ENABLE_X64", "maybe"),
        ("JAX_DEFAULT_MATMUL_PRECISION", "nonsense"),
    ],
)
def test_value_that_jax_refuses_is_one_line_that_names_the_variable(
    variable: str, value: str
) -> None:
    line = error_line(*SMALL, **{variable: value})
    assert variable in line or variable.lower() in line


def test_platform_without_devices_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def assert_backend() -> None:
        raise AssertionError  # As JAX does where the platform's plugin finds no device.

    monkeypatch.setattr(jax, "devices", assert_backend)
    with pytest.raises(UserError, match=r"^JAX has no device .*: JAX_PLATFORMS .* must na"):
        jax_options.ignore_environment(print)


def test_variables_that_change_the_last_bits_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    warnings: list[str] = []
    jax_options.ignore_environment(warnings.append)
    end = "is set: it may change the last bits of the results"
    assert warnings == [
        f"JAX_DISABLE_MOST_OPTIMIZATIONS=1 {end}",
        f"XLA_FLAGS=--xla_cpu_enable_fast_math=true {end}",
    ]


def test_a_default_value_is_not_worth_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    monkeypatch.setenv("JAX_NUMPY_DTYPE_PROMOTION", "standard")
    warnings: list[str] = []
    jax_options.ignore_environment(warnings.append)
    assert warnings == []


@pytest.fixture
def x64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.usefixtures("x64")
def test_functions_compute_in_float32_where_python_has_enabled_float64() -> None:
    config = small_config()
    examples = data.load("digits").train
    state = create_train_state(config, jax.random.key(0))
    order = np.asarray(epoch_permutation(0, 1, 8))
    batch = {"image": examples.image[order], "label": examples.label[order]}
    state, metrics = train_step(state, batch)
    assert order.dtype == np.int32
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert metrics.loss_sum.dtype == eval_step(state, batch).loss_sum.dtype == np.float32
