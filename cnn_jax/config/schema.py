"""The fields of a config, their valid values, and the errors for invalid ones.

All checks run on the host, before anything is traced, downloaded or written.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict, FieldReference

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.errors import UserError
from cnn_jax.nn import layer_table, shapes

MAX_STEPS = 2**31 - 1  # Steps are counted in an int32.
MAX_FLOAT32 = 3.4e38  # Just below the largest float32.
# A thousand times a large model for small images: a larger number is a typing error.
MAX_MULTIPLY_ADDS = 10**12
MAX_KERNEL_SIZE = 15  # Programs grow with its square: at 31, one takes minutes to compile.
MAX_MODELS = 2**20  # A larger number of models in one run is a typing error.
MAX_SEED = 2**32 - 1  # JAX takes seeds modulo 2**32: a larger one would repeat another run.


@dataclasses.dataclass(frozen=True)
class Field:
    """The valid values of a config field.

    Attributes:
      requirement: description of the valid values that completes "it must be ...".
      is_valid: returns whether a value is valid; never raises.
    """

    requirement: str
    is_valid: Callable[[Any], bool]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and abs(value) <= MAX_FLOAT32


def _integer(low: int, high: int | None = None) -> Field:
    requirement = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    return Field(requirement, lambda v: _is_int(v) and v >= low and (high is None or v <= high))


def _one_of(*names: str) -> Field:
    return Field("one of " + ", ".join(names), lambda v: isinstance(v, str) and v in names)


_POSITIVE = Field("a number > 0 (float32 range)", lambda v: _is_real(v) and v > 0)
_NOT_NEGATIVE = Field("a number >= 0 (float32 range)", lambda v: _is_real(v) and v >= 0)
_PATH = Field("a path or an empty string", lambda v: isinstance(v, str) and "\0" not in v)
_NAME = Field("a non-empty string", lambda v: isinstance(v, str) and v != "")


def _sweepable(field: Field) -> Field:
    """Returns a field for one value of `field`, or several distinct values to sweep over."""

    def is_valid(value: Any) -> bool:
        if not isinstance(value, tuple | list):
            return field.is_valid(value)
        return all(map(field.is_valid, value)) and 0 < len(value) == len(set(value))

    return Field(f"{field.requirement}, or several distinct ones, as in 0.05,0.1", is_valid)


FIELDS: Mapping[str, Field] = {
    "seed": _integer(0, MAX_SEED),
    "num_models": _integer(1),
    "num_epochs": _integer(1),
    "batch_size": _integer(1),
    "learning_rate": _sweepable(_POSITIVE),
    "optimizer": _one_of("sgd", "nesterov", "adam", "adamw"),
    "momentum": _sweepable(Field("a number >= 0 and < 1", lambda v: _is_real(v) and 0 <= v < 1)),
    "weight_decay": _sweepable(_NOT_NEGATIVE),
    "schedule": _one_of("constant", "cosine", "one_cycle"),
    "deterministic": Field("True or False", lambda v: isinstance(v, bool)),
    "log_every_steps": _integer(1),
    "checkpoint_every_epochs": _integer(1),
    "dataset.name": _NAME,
    "dataset.data_dir": _PATH,
    "dataset.manual_dir": _PATH,
    "dataset.train_split": _NAME,
    "dataset.test_split": _NAME,
    "dataset.feed": _one_of("auto", "device", "stream"),
    "model.features": Field(
        "one or more integers >= 1, as in 8,16",
        lambda v: isinstance(v, tuple) and len(v) > 0 and all(_is_int(n) and n >= 1 for n in v),
    ),
    "model.kernel_size": _integer(1, MAX_KERNEL_SIZE),
    "model.strides": _integer(1),
    "model.padding": _one_of("VALID", "SAME", "FULL"),
    "model.activation": _one_of("relu", "leaky_relu", "sigmoid"),
    "model.pool": _one_of("max", "avg", "none"),
    "model.init_stddev": _NOT_NEGATIVE,
}


def check(config: ConfigDict) -> data.Info:
    """Checks a config: its fields, its data set and splits, the shapes of its model, its size.

    Args:
      config: config with the keys of `configs/mnist.py`.

    Returns:
      Description of the config's data set.

    Raises:
      UserError: for the first invalid value; the message names the key, the value, the requirement
        and what to do.
    """
    check_fields(config)
    info = describe_data(config)
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
    """Returns the config that was saved as JSON, with `model.features` as a tuple again.

    Args:
      content: parsed JSON, normally an object with all keys of `FIELDS`.

    Returns:
      The locked config, whose fields have been checked.

    Raises:
      UserError: if the content is not a config, has other keys, or has an invalid value.
    """
    try:
        model = {**content["model"], "features": tuple(content["model"]["features"])}
        # As in `configs/mnist.py`: one value may be replaced by several.
        swept = {
            name: FieldReference(content[name], field_type=object)
            for name in sweep.SWEEPABLE
            if name in content
        }
        config = ConfigDict({**content, **swept, "model": model}).lock()
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


def describe_data(config: ConfigDict) -> data.Info:
    """Returns the shapes and sizes of the config's data set, without a download.

    Raises:
      UserError: if the data set is neither known nor prepared, or a split is invalid.
    """
    return data.describe(**config.dataset)


def walk_layers(config: ConfigDict, info: data.Info) -> Iterator[layer_table.Layer]:
    """Yields the layers of the config's model, from the image to the logits.

    Args:
      config: config whose fields have been checked.
      info: description of its data set, for the image shape and the number of classes.

    Raises:
      UserError: at the first layer whose output would be empty.
    """
    fields = {field.name: config.model[field.name] for field in dataclasses.fields(shapes.Stage)}
    stage = shapes.Stage(**fields)
    return layer_table.walk_layers(info.image_shape, info.num_classes, config.model.features, stage)


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


def unknown_key_error(key: str, value: Any) -> UserError:
    """Returns the error for an unknown key, with the most similar known key as a hint."""
    similar = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.5)
    # Users who leave out the group ("kernel_size") mean "model.kernel_size".
    similar = [name for name in FIELDS if name.endswith("." + key)] or similar
    hint = f"Did you mean {similar[0]}?" if similar else "Remove it."
    return UserError(
        f"config key {key}={value} is unknown: the key must be one of {', '.join(FIELDS)}. {hint}"
    )


def invalid_value_error(key: str, value: Any) -> UserError:
    """Returns the error for an invalid value of a known key.

    If the value is a misspelt name, the hint is the most similar valid name.
    """
    requirement = FIELDS[key].requirement
    hint = f"Change {key}."
    if isinstance(value, str) and requirement.startswith("one of "):
        names = requirement.removeprefix("one of ").split(", ")
        by_lower_case = {name.lower(): name for name in names}
        similar = difflib.get_close_matches(value.lower(), by_lower_case, n=1, cutoff=0.5)
        hint = f"Did you mean {by_lower_case[similar[0]]}?" if similar else hint
    return UserError(f"{key}={format_value(value)} is invalid: it must be {requirement}. {hint}")


def format_value(value: Any) -> str:
    """Formats a config value on one line; tuples and lists as on the command line: `8,16`."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


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
