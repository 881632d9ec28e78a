"""Checks of a config: its fields, its data set, the shapes of its model, the size of its run.

All checks run on the host, before anything is traced, downloaded or written.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.config.fields import (
    ADDED,
    FIELDS,
    MAX_SEED,
    format_value,
    invalid_value_error,
    unknown_key_error,
)
from cnn_jax.errors import UserError
from cnn_jax.nn import layer_table, shapes
from cnn_jax.wording import pluralize

MAX_STEPS = 2**31 - 1  # Steps are counted in an int32.
# A thousand times a large model for small images: a larger number is a typing error.
MAX_MULTIPLY_ADDS = 10**12
MAX_MODELS = 2**20  # A larger number of models in one run is a typing error.


def check(config: ConfigDict, show_progress: bool = False) -> data.Info:
    """Checks a config: its fields, its data set and splits, the shapes of its model, its size.

    Args:
      config: config with the keys of `configs/mnist.py`.
      show_progress: as for `describe_data`.

    Returns:
      Description of the config's data set.

    Raises:
      UserError: for the first invalid value; the message names the key, the value, the requirement
        and what to do.
    """
    check_fields(config)
    info = describe_data(config, show_progress)
    _check_strokes(config, info)
    multiply_adds = sum(layer.multiply_adds for layer in walk_layers(config, info))
    if multiply_adds > MAX_MULTIPLY_ADDS:
        raise UserError(
            f"model.features={format_value(config.model.features)} is invalid: an image must take "
            f"at most {MAX_MULTIPLY_ADDS:.0e} multiply-adds, and takes {multiply_adds:.1e}. Use "
            "fewer features."
        )
    if config.batch_size > info.num_train:
        raise UserError(
            f"batch_size={config.batch_size} is invalid: it must be at most {info.num_train}, the "
            f"number of examples in dataset.train_split={config.dataset.train_split}. Use a "
            "smaller batch_size."
        )
    num_steps = config.num_epochs * -(-info.num_train // config.batch_size)
    if num_steps > MAX_STEPS:
        raise UserError(
            f"num_epochs={config.num_epochs} is invalid: the run must take at most {MAX_STEPS} "
            f"steps, and takes {num_steps}. Use fewer epochs."
        )
    return info


def from_json(content: Any) -> ConfigDict:
    """Returns the config that was saved as JSON, with lists of its groups as tuples again.

    Args:
      content: parsed JSON, normally an object with all keys of `FIELDS`; those of `ADDED` may be
        missing.

    Returns:
      The locked config, whose fields have been checked.

    Raises:
      UserError: if the content is not a config, has other keys, or has an invalid value.
    """
    try:
        groups = {
            group: {k: tuple(v) if isinstance(v, list) else v for k, v in content[group].items()}
            for group in ("dataset", "model")
        }
        # As in `configs/mnist.py`: one value may be replaced by several.
        swept = {
            name: FieldReference(content[name], field_type=object)
            for name in sweep.SWEEPABLE
            if name in content
        }
        complete = {**content, **swept, **groups}
        for key, value in ADDED.items():
            group, _, name = key.rpartition(".")
            if group:
                complete[group] = {name: value} | complete.get(group, {})
            else:
                complete.setdefault(name, value)
        config = ConfigDict(complete).lock()
        keys = dict(flatten(config)).keys()
    except Exception as error:  # ConfigDict does not document what it raises.
        raise UserError(
            f"cannot read the saved config ({type(error).__name__}: {error}): it must be as "
            "cnn_jax saved it. Choose another run."
        ) from error
    if different := sorted(keys ^ FIELDS.keys()):
        raise UserError(
            f"cannot read the saved config (missing or unknown: {', '.join(different)}): it must "
            "have the keys of this version of cnn_jax. It was written by an earlier or later "
            "version: use that version, or another run."
        )
    check_fields(config)
    return config


def describe_data(config: ConfigDict, show_progress: bool = False) -> data.Info:
    """Returns the shapes and sizes of the config's data set, without a download.

    Args:
      config: config whose fields have been checked.
      show_progress: whether hashing people's own files draws a progress bar on standard error.

    Raises:
      UserError: if the data set is neither known nor prepared, or a split is invalid.
    """
    return data.describe(**config.dataset, show_progress=show_progress)


def format_data_key(config: ConfigDict) -> str:
    """Formats the key that chooses the data set, and its value: `dataset.name=mnist`."""
    key = "path" if config.dataset.name == data.FILES else "name"
    return f"dataset.{key}={config.dataset[key]}"


def walk_layers(config: ConfigDict, info: data.Info) -> Iterator[layer_table.Layer]:
    """Yields the layers of the config's model, from the image to the logits.

    Args:
      config: config whose fields have been checked.
      info: description of its data set, for the image shape and the number of classes.

    Raises:
      UserError: at the first layer whose output would be empty.
    """
    fields = {field.name: config.model[field.name] for field in dataclasses.fields(shapes.Stage)}
    model = config.model
    convolutions = shapes.convolutions(model.features, model.stage_sizes, shapes.Stage(**fields))
    return layer_table.walk_layers(info.image_shape, info.num_classes, convolutions)


def check_fields(config: ConfigDict) -> None:
    """Checks the keys of a config, the value of each, and the rules between several.

    Raises:
      UserError: for the first unknown key, missing key or invalid value.
    """
    values = dict(flatten(config))
    for key in values:
        if key not in FIELDS:
            raise unknown_key_error(key, values[key])
    for key, field in FIELDS.items():
        if key not in values:
            raise UserError(f"config key {key} is missing: it must be {field.requirement}. Set it.")
        if not field.is_valid(values[key]):
            raise invalid_value_error(key, values[key])
    _check_num_models(config)
    _check_optimizer(config)
    _check_stage_sizes(config)
    _check_files(values)


def _check_files(values: Mapping[str, Any]) -> None:
    """Refuses settings of files where other data would be used."""
    if (name := values["dataset.name"]) == data.FILES:
        return
    for key, default in ADDED.items():
        if key.startswith("dataset.") and values[key] != default:
            raise UserError(
                f"{key}={format_value(values[key])} is invalid: it must be "
                f"{format_value(default) or 'empty'} with dataset.name={name}, which does not use "
                f"it. Use dataset.name={data.FILES}."
            )


def _check_stage_sizes(config: ConfigDict) -> None:
    features, sizes = config.model.features, config.model.stage_sizes
    if sizes != (1,) and len(sizes) != len(features):
        raise UserError(
            f"model.stage_sizes={format_value(sizes)} is invalid: it must be one number for each "
            f"of the {pluralize(len(features), 'stage')} of model.features="
            f"{format_value(features)}, or 1 for one convolution in every stage. Change "
            "model.stage_sizes."
        )


def _check_optimizer(config: ConfigDict) -> None:
    """Refuses a hyperparameter that the optimizer would silently ignore."""
    optimizer = config.optimizer
    for hyperparameters in sweep.hyperparameter_combinations(config):
        momentum = hyperparameters.get("momentum", config.momentum)
        weight_decay = hyperparameters.get("weight_decay", config.weight_decay)
        if optimizer in ("adam", "adamw") and momentum != 0:
            raise UserError(
                f"momentum={momentum} is invalid: it must be 0 with optimizer={optimizer}, which "
                "ignores it. Use momentum=0, or optimizer=sgd."
            )
        if optimizer == "nesterov" and momentum == 0:
            raise UserError(
                "momentum=0 is invalid: it must be > 0 with optimizer=nesterov. Use momentum=0.9, "
                "or optimizer=sgd."
            )
        if optimizer == "adam" and weight_decay != 0:
            raise UserError(
                f"weight_decay={weight_decay} is invalid: it must be 0 with optimizer=adam, which "
                "ignores it. Use optimizer=adamw, or weight_decay=0."
            )


def _check_strokes(config: ConfigDict, info: data.Info) -> None:
    """Refuses strokes for data sets other than grey images of digits."""
    is_of_digits = info.class_names == tuple("0123456789")
    if config.augment.strokes and not (is_of_digits and info.image_shape[2] == 1):
        raise UserError(
            f"augment.strokes={config.augment.strokes} is invalid: it must be 0 with "
            f"{format_data_key(config)}, which has no grey images of the digits 0 to 9. Use "
            "augment.strokes=0."
        )


def _check_num_models(config: ConfigDict) -> None:
    if (last_seed := config.seed + config.num_models - 1) > MAX_SEED:
        raise UserError(
            f"num_models={config.num_models} is invalid: the last seed, {last_seed}, must be at "
            f"most {MAX_SEED}. Use fewer models, or a smaller seed than seed={config.seed}."
        )
    if (count := sweep.count_models(config)) > MAX_MODELS:
        raise UserError(
            f"the config makes {count} models: a run must train at most {MAX_MODELS}. Use fewer "
            "seeds (num_models) or fewer swept values."
        )


def flatten(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Returns (dotted key, value) of every leaf of a nested config.

    Args:
      config: ConfigDict or mapping with string keys; may be nested.
      prefix: text to put before each key.

    Returns:
      Pairs in the order of the config. An empty group is a leaf with its own key.
    """
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + key, value))
    return pairs
