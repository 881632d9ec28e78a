"""Loads one or all of the trained models in the workdir of a training run."""

import dataclasses
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from cnn_jax.checkpoint.restore import Checkpoint, checkpoint_at, newest_checkpoint
from cnn_jax.checkpoint.tree import dtypes_and_shapes, first_difference
from cnn_jax.config import schema, sweep
from cnn_jax.config.changes import check_same_model
from cnn_jax.errors import UserError
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.trained import TrainedModel, param_shapes
from cnn_jax.io.folders import local_folder
from cnn_jax.wording import pluralize


def _warn(message: str) -> None:
    """Issues a Python warning that names the line which called `load`."""
    # This function, `newest_checkpoint`, `_open_run` and `load` are between the two.
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
    run = _open_run(workdir, step, config, warn)
    trained = _select_model(run, _check_model_index(model_index, run))
    if not _is_finite(trained):
        raise _not_finite(run)
    return trained


def load_ensemble(
    workdir: str | os.PathLike[str],
    step: int | None,
    model_index: int | None,
    config: ConfigDict | None,
    warn: Callable[[str], None],
) -> Ensemble:
    """Loads all models of a training run, or the one with a given index.

    Args:
      workdir: folder of the run, which may still be training.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the only model, from 0; None: all models. Required where the models
        differ in more than their seed.
      config: config whose data set replaces that of the run; its `model` must equal the run's.
        None: the config of the run.
      warn: function that is called with one line about the damaged checkpoints that were skipped,
        and one about the models that are left out because their parameters are not finite.

    Returns:
      The models with their parameters on the host.

    Raises:
      UserError: when there is no such checkpoint or model, the config has another model, or the
        parameters of no model are finite or they do not match the config.
    """
    run = _open_run(workdir, step, config, warn)
    if model_index is None and run.num_models == run.config.num_models:
        models = [_select_model(run, index) for index in range(run.num_models)]
    else:
        models = [_select_model(run, _check_model_index(model_index, run))]
    finite = [model for model in models if _is_finite(model)]
    if not finite:
        raise _not_finite(run, " in each of its models" if len(models) > 1 else "")
    if len(finite) < len(models):
        warn(
            f"leaving out {len(models) - len(finite)} of {len(models)} models of {run.workdir}: "
            f"their parameters in checkpoint {run.checkpoint.step} are NaN or inf"
        )
    return Ensemble(finite)


@dataclasses.dataclass(frozen=True)
class _Run:
    """The models of a training run at one step.

    Attributes:
      workdir: folder of the run, with `~` expanded.
      checkpoint: checkpoint of that step.
      config: config of the run, perhaps with the data set of another config.
      num_models: number of models.
    """

    workdir: Path
    checkpoint: Checkpoint
    config: ConfigDict
    num_models: int


def _open_run(
    workdir: str | os.PathLike[str],
    step: int | None,
    override: ConfigDict | None,
    warn: Callable[[str], None],
) -> _Run:
    """Reads one checkpoint of a run.

    Args:
      workdir: folder of the run, which may still be training.
      step: step of the checkpoint; None: the newest intact checkpoint.
      override: config whose data set replaces that of the run, or None.
      warn: function that is called with one line about the damaged checkpoints that were skipped.

    Raises:
      UserError: when there is no such folder or checkpoint, the checkpoint has no config, or the
        other config has another model.
    """
    path = local_folder("--workdir", workdir)
    folder = path / "checkpoints"
    checkpoint = newest_checkpoint(folder, warn) if step is None else checkpoint_at(folder, step)
    if checkpoint is None:
        raise UserError(
            f"workdir {path} has no checkpoint: it must be the --workdir of a training run. Train "
            "first with this --workdir, or choose another one."
        )
    config = schema.from_json(checkpoint.metadata["config"])
    if override:
        schema.check_fields(override)
        check_same_model(override, path, config)
        config.dataset = override.dataset
    return _Run(path, checkpoint, config, sweep.count_models(config))


def _check_model_index(model_index: int | None, run: _Run) -> int:
    """Returns the index of the model to load: the given one, or 0 where the run has one model.

    Raises:
      UserError: when there is no such model, or the run has several and no index is given.
    """
    num_models = run.num_models
    if model_index is None:
        if num_models > 1:
            swept = " and ".join(sweep.swept_hyperparameters(run.config))
            kinds = f" with several values of {swept}" if swept else ""
            raise UserError(
                f"workdir {run.workdir} has {num_models} models{kinds}: the index of one must be "
                f"given, 0..{num_models - 1}, in the order of its result.json. Use --model=K (in "
                "Python: model_index=K)."
            )
        return 0
    if not 0 <= model_index < num_models:
        indices = f"0..{num_models - 1}" if num_models > 1 else "0"
        raise UserError(
            f"--model={model_index} is invalid: it must be {indices}, since workdir {run.workdir} "
            f"has {pluralize(num_models, 'model')}. Change --model (in Python: model_index)."
        )
    return model_index


def _select_model(run: _Run, index: int) -> TrainedModel:
    """Returns one model of a run.

    Raises:
      UserError: when its parameters do not have the dtypes and shapes of the config's model.
    """
    config, model_index = run.config, None
    params = {
        name.removeprefix("params."): array
        for name, array in run.checkpoint.arrays.items()
        if name.startswith("params.")
    }
    if run.num_models > 1:
        if any(array.shape[:1] != (run.num_models,) for array in params.values()):
            raise _mismatch(run, f"its arrays have no first axis of {run.num_models} models")
        params = {name: array[index] for name, array in params.items()}
        config, model_index = sweep.single_model_config(config, index), index
    dataset, tree = run.checkpoint.metadata["dataset"], unflatten_dict(params, sep=".")
    image_shape, class_names = tuple(dataset["image_shape"]), tuple(dataset["class_names"])
    step = run.checkpoint.step
    trained = TrainedModel(run.workdir, step, config, image_shape, class_names, tree, model_index)
    shapes = param_shapes(trained.model, image_shape)
    if difference := first_difference(dtypes_and_shapes(params), shapes):
        raise _mismatch(run, difference)
    return trained


def _is_finite(trained: TrainedModel) -> bool:
    return all(np.isfinite(array).all() for array in jax.tree.leaves(trained.params))


def _not_finite(run: _Run, where: str = "") -> UserError:
    return UserError(
        f"checkpoint {run.checkpoint.step} of {run.workdir} has parameters that are NaN or inf"
        f"{where}: all must be finite. Choose another --step, --model or --workdir."
    )


def _mismatch(run: _Run, problem: str) -> UserError:
    return UserError(
        f"checkpoint {run.checkpoint.step} of {run.workdir} does not match its config ({problem}): "
        "it must hold the parameters of the config's model. Choose another --step or --workdir."
    )
