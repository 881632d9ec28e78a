"""Compiles programs for GPUs that are not there, in a process with `gpu_target.ENVIRONMENT`.

    python -m tests.engine.for_gpus FOLDER

writes the HLO text of each loop into FOLDER, for `test_gpu_compile.py`.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import gpu_target
from cnn_jax.config import schema
from cnn_jax.engine import compile
from cnn_jax.training.stream_feed import chunk_sizes
from configs import mnist


@dataclasses.dataclass(frozen=True, eq=False)  # A key by its identity.
class Case:
    """Programs to compile.

    Attributes:
      devices: shape (model, data) of the mesh.
      num_models: number of models.
      deterministic: as in the config.
      changes: other values of the reference config, by dotted key.
      feed: `device` or `stream`.
    """

    devices: tuple[int, int]
    num_models: int
    deterministic: bool
    changes: dict[str, Any]
    feed: str = "device"

    @property
    def name(self) -> str:
        """Name of the case, and of its folder."""
        kind = "deterministic" if self.deterministic else "nondeterministic"
        return f"{self.num_models} models on {math.prod(self.devices)} GPUs, {kind}"

    @property
    def config(self) -> ConfigDict:
        """The config of the run whose programs are compiled."""
        config = mnist.get_config()
        config.num_models, config.deterministic = self.num_models, self.deterministic
        config.update_from_flattened_dict(self.changes)
        return config


def _model(padding: str, strides: int, activation: str, pool: str) -> dict[str, Any]:
    return {
        "model.padding": padding,
        "model.strides": strides,
        "model.activation": activation,
        "model.pool": pool,
    }


# 1 and 64 models, on one and on eight GPUs, deterministic and not; together every pooling, padding,
# activation and optimizer, and two strides. The first and the last are the reference config.
CASES = (
    Case((1, 1), 1, True, {}),
    Case(
        (1, 1),
        1,
        False,
        {**_model("VALID", 2, "leaky_relu", "avg"), "optimizer": "nesterov", "momentum": 0.9},
        "stream",
    ),
    Case((1, 1), 64, True, {**_model("FULL", 2, "sigmoid", "avg"), "optimizer": "adam"}),
    Case((1, 1), 64, False, {**_model("SAME", 1, "leaky_relu", "max"), "optimizer": "adamw"}),
    Case((1, 8), 1, True, _model("VALID", 2, "relu", "none"), "stream"),
    Case((1, 8), 1, False, _model("FULL", 1, "sigmoid", "max")),
    Case((8, 1), 64, False, _model("SAME", 2, "relu", "none")),
    Case((8, 1), 64, True, {}),
)


def lower_loops(case: Case) -> Iterator[tuple[str, jax.stages.Lowered]]:
    """Yields the loops of a run, lowered; the one for any number of steps only of the reference."""
    config = case.config
    info = schema.check(config)
    mesh = gpu_target.make_mesh(*case.devices)
    sizes = chunk_sizes(config, info, mesh) if case.feed == "stream" else None
    run = config, info, mesh, sizes, compile.state_shapes(config, info, mesh)
    yield "full_chunk", compile.lower_train(*run, compile.full_chunk(config, info, sizes))
    if not case.changes:
        yield "train_steps", compile.lower_train(*run)
    yield "evaluate", compile.lower_evaluate(*run)


def compile_run(case: Case) -> Iterator[tuple[str, jax.stages.Compiled]]:
    """Compiles all programs of a run, as it does itself, and yields the loops."""
    config = case.config
    mesh = gpu_target.make_mesh(*case.devices)
    info = schema.check(config)
    programs = compile.compile_programs(config, info, mesh, None, time.perf_counter)
    (full_chunk,) = programs.full_chunks.values()
    yield "full_chunk", full_chunk
    yield "train_steps", programs.train_steps
    yield "evaluate", programs.evaluate


def main(folder: Path) -> None:
    """Writes FOLDER/CASE/LOOP.hlo for all cases."""

    def write(case: Case, name: str, compiled: jax.stages.Compiled) -> None:
        path = folder / case.name / f"{name}.hlo"
        path.parent.mkdir(exist_ok=True)
        path.write_text(compiled.as_text() or "")

    def compile_loop(case: Case, name: str, lowered: jax.stages.Lowered) -> None:
        write(case, name, lowered.compile())

    *others, last = CASES
    with ThreadPoolExecutor(2) as threads:
        compiling = [
            threads.submit(compile_loop, case, name, lowered)
            for case in others
            for name, lowered in lower_loops(case)
        ]
        for name, compiled in compile_run(last):
            write(last, name, compiled)
        for future in compiling:
            future.result()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
