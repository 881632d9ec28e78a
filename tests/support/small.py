"""A training run that takes seconds."""

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, experiment
from cnn_jax.engine import compile
from cnn_jax.engine.compile import ChunkSizes, Programs
from cnn_jax.reporting.result import Result
from cnn_jax.training import session

# Every random change of training images, in large ranges.
AUGMENT: dict[str, Any] = {
    "augment.rotation_degrees": 20.0,
    "augment.shear_degrees": 20.0,
    "augment.scale": 0.2,
    "augment.shift_pixels": 2.0,
    "augment.stroke_pixels": 1.0,
    "augment.strokes": 0.8,
}

_compile_programs = compile.compile_programs
_compiled: dict[tuple[Any, ...], Programs] = {}


def small_config(**changes: Any) -> ConfigDict:
    """Returns a config that trains two epochs on 70 digits.

    An epoch has 5 steps: 4 batches of 16 images, and the last batch of 6.

    Args:
      changes: other values, by dotted key, as in `**{"model.pool": "avg"}`.
    """
    config: ConfigDict = import_module("configs.mnist").get_config()
    config.update_from_flattened_dict(
        {
            "dataset.name": "digits",
            "dataset.train_split": "train[:70]",
            "dataset.test_split": "test[:30]",
            "num_epochs": 2,
            "batch_size": 16,
            "log_every_steps": 2,
            "learning_rate": 0.1,
            "model.init_stddev": 0.1,
        }
        | changes
    )
    return config


def run(
    workdir: Path | None,
    *,
    out: Any = None,
    err: Any = None,
    figures: Any = False,
    **changes: Any,
) -> Result:
    """Trains with `small_config`.

    A hundred tests call this, most of them with the same programs, so each program is compiled only
    once per process. `test_main.py` runs the whole program, as users start it.

    Args:
      workdir: folder of the run; None: no checkpoints and results are written.
      out: stream for the console.
      err: stream for warnings.
      figures: whether to draw figures, which takes longer than the training.
      changes: other config values, as for `small_config`.
    """
    folder = str(workdir) if workdir else None
    config = small_config(**changes)
    with contextlib.ExitStack() as stack:
        if vars(session)["compile_programs"] is _compile_programs:  # Not patched by a test.
            stack.enter_context(mock.patch.object(session, "compile_programs", _compile_once))
        if not figures:
            stack.enter_context(mock.patch.object(experiment, "_draw"))
        return experiment.run(config, folder, out=out or io.StringIO(), err=err or io.StringIO())


def _compile_once(
    config: ConfigDict,
    info: data.Info,
    mesh: Mesh,
    chunk: ChunkSizes | None,
    clock: Callable[[], float],
) -> Programs:
    """Caches the programs of `compile_programs`, by all that they depend on."""
    started = clock()
    # Seeds are arguments.
    unused = ("seed", "log_every_steps", "checkpoint_every_epochs", "film_frames")
    fields = {name: value for name, value in config.to_dict().items() if name not in unused}
    key = (json.dumps(fields, sort_keys=True), info, mesh, chunk)
    if key not in _compiled:
        _compiled[key] = _compile_programs(config, info, mesh, chunk, clock)
    return dataclasses.replace(_compiled[key], seconds=clock() - started)
