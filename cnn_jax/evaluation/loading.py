"""Loads a trained model from the workdir of a training run."""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cnn_jax.checkpoint.restore import Checkpoint, checkpoint_at, newest_checkpoint
from cnn_jax.checkpoint.tree import dtypes_and_shapes, first_difference
from cnn_jax.config import schema, sweep
from cnn_jax.config.changes import check_same_model
from cnn_jax.errors import UserError
from cnn_jax.evaluation.trained import TrainedModel, param_shapes
from cnn_jax.io.folders import local_folder


def _warn(message: str) -> None:
    """Issues a Python warning that names the line which called `load`."""
    # This function, `newest_checkpoint`, `_open_checkpoint` and `load` are between the two.
    warnings.warn(message, stacklevel=5)


def load(
    workdir: str | os.PathLike[str],
    *,
    step: int | None = None,
    model_index: int | None = None,
    config: ConfigDict | None = None,
    warn: Callable[[str], None] = _warn,
) -> TrainedModel:
    """Loads a trained model from the workdir of a training run.

    Args:
      workdir: folder of the run, which may still be training.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the model, from 0, in the order of `result.json`; required where the
        run trained several.
      config: config whose data set replaces that of the run; its `model` must equal the run's.
        None: the config of the run.
      warn: function that is called with one line about the damaged checkpoints that were skipped;
        default: Python's `warnings.warn`.

    Returns:
      The model with its parameters on the host.

    Raises:
      UserError: when there is no such checkpoint or model, the config has another model, or the
        parameters are not finite or do not match the config.
    """
    path, checkpoint = _open_checkpoint(workdir, step, warn)
    run_config = _read_config(checkpoint, path, config)
    dataset = checkpoint.metadata["dataset"]
    image_shape, class_names = tuple(dataset["image_shape"]), tuple(dataset["class_names"])
    params = {
        name.removeprefix("params."): array
        for name, array in checkpoint.arrays.items()
        if name.startswith("params.")
    }
    num_models = sweep.count_models(run_config)
    _check_model_index(model_index, num_models, path)
    if num_models > 1:
        assert model_index is not None
        if any(array.shape[:1] != (num_models,) for array in params.values()):
            problem = f"its arrays have no first axis of {num_models} models"
            raise _mismatch(checkpoint.step, path, problem)
        params = {name: array[model_index] for name, array in params.items()}
        run_config = sweep.single_model_config(run_config, model_index)
    tree = unflatten_dict(params, sep=".")
    trained = TrainedModel(path, checkpoint.step, run_config, image_shape, class_names, tree)
    _check_params(trained, params)
    return trained


def _open_checkpoint(
    workdir: str | os.PathLike[str], step: int | None, warn: Callable[[str], None]
) -> tuple[Path, Checkpoint]:
    """Reads one checkpoint of a run.

    Args:
      workdir: folder of the run, which may still be training.
      step: step of the checkpoint; None: the newest intact checkpoint.
      warn: function that is called with one line about the damaged checkpoints that were skipped.

    Returns:
      The workdir, with `~` expanded, and the checkpoint.

    Raises:
      UserError: when there is no such folder or checkpoint.
    """
    path = local_folder("--workdir", workdir)
    folder = path / "checkpoints"
    checkpoint = newest_checkpoint(folder, warn) if step is None else checkpoint_at(folder, step)
    if checkpoint is None:
        raise UserError(
            f"workdir {path} has no checkpoint: it must be the --workdir of a training run. Train "
            "first with this --workdir, or choose another one."
        )
    return path, checkpoint


def _read_config(checkpoint: Checkpoint, workdir: Path, override: ConfigDict | None) -> ConfigDict:
    """Returns the config of the run that saved a checkpoint.

    Args:
      checkpoint: checkpoint of the run.
      workdir: folder of the run, for the error message.
      override: config whose data set replaces that of the run, or None.

    Raises:
      UserError: when the checkpoint has no config, or the other config has another model.
    """
    config = schema.from_json(checkpoint.metadata["config"])
    if override:
        schema.check_fields(override)
        check_same_model(override, workdir, config)
        config.dataset = override.dataset
    return config


def _check_model_index(model_index: int | None, num_models: int, workdir: Path) -> None:
    if model_index is None:
        if num_models > 1:
            raise UserError(
                f"workdir {workdir} has {num_models} models: the index of one must be given, "
                f"0..{num_models - 1}, in the order of its result.json. Use --model=K (in Python: "
                "model_index=K)."
            )
    elif not 0 <= model_index < num_models:
        count, indices = (
            (f"{num_models} models", f"0..{num_models - 1}") if num_models > 1 else ("1 model", "0")
        )
        raise UserError(
            f"--model={model_index} is invalid: it must be {indices}, since workdir {workdir} has "
            f"{count}. Change --model (in Python: model_index)."
        )


def _check_params(trained: TrainedModel, params: Mapping[str, npt.NDArray[Any]]) -> None:
    """Checks that parameters have the dtypes and shapes of their model, and are finite.

    Args:
      trained: model that the parameters belong to.
      params: its parameters by path, such as `conv_1.kernel`.

    Raises:
      UserError: when they do not.
    """
    saved = dtypes_and_shapes(params)
    shapes = param_shapes(trained.model, trained.image_shape)
    if difference := first_difference(saved, shapes):
        raise _mismatch(trained.step, trained.workdir, difference)
    if not all(np.isfinite(array).all() for array in params.values()):
        raise UserError(
            f"checkpoint {trained.step} of {trained.workdir} has parameters that are NaN or inf: "
            "all must be finite. Choose another --step, --model or --workdir."
        )


def _mismatch(step: int, workdir: Path, problem: str) -> UserError:
    return UserError(
        f"checkpoint {step} of {workdir} does not match its config ({problem}): it must hold the "
        "parameters of the config's model. Choose another --step or --workdir."
    )
