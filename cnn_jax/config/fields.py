"""The fields of a config, their valid values, and the errors for an invalid one."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from cnn_jax.errors import UserError

MAX_FLOAT32 = 3.4e38  # Just below the largest float32.
MAX_KERNEL_SIZE = 15  # Programs grow with its square: at 31, one takes minutes to compile.
MAX_STAGE_SIZE = 100  # Programs grow with it: a larger number is a typing error.
MAX_FILM_FRAMES = 1000  # Each is a file; a larger number is a typing error.
MAX_IMAGE_SIZE = 4096  # Pixels a side: a larger number is a typing error.
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


def _real(low: float, high: float) -> Field:
    return Field(f"a number from {low} to {high}", lambda v: _is_real(v) and low <= v <= high)


def _tuple_of(field: Field, values: str) -> Field:
    """Returns a field for one or more values of `field`, which `values` describes."""

    def is_valid(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) > 0 and all(map(field.is_valid, value))

    return Field(f"one or more {values}", is_valid)


_POSITIVE = Field("a number > 0 (float32 range)", lambda v: _is_real(v) and v > 0)
_NOT_NEGATIVE = Field("a number >= 0 (float32 range)", lambda v: _is_real(v) and v >= 0)
_BELOW_1 = Field("a number >= 0 and < 1", lambda v: _is_real(v) and 0 <= v < 1)
_PATH = Field("a path or an empty string", lambda v: isinstance(v, str) and "\0" not in v)
_BOOLEAN = Field("True or False", lambda v: isinstance(v, bool))
_NAME = Field("a non-empty string", lambda v: isinstance(v, str) and v != "")


def _is_image_size(value: Any) -> bool:
    if not isinstance(value, tuple) or not all(map(_is_int, value)):
        return False
    return value == (0,) or (len(value) in (1, 2) and all(0 < v <= MAX_IMAGE_SIZE for v in value))


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
    "momentum": _sweepable(_BELOW_1),
    "weight_decay": _sweepable(_NOT_NEGATIVE),
    "label_smoothing": _BELOW_1,
    "schedule": _one_of("constant", "cosine", "one_cycle"),
    "deterministic": _BOOLEAN,
    "log_every_steps": _integer(1),
    "evaluate_every_epochs": _integer(1),
    "checkpoint_every_epochs": _integer(1),
    "film_frames": Field(
        f"0, or an integer from 2 to {MAX_FILM_FRAMES}",
        lambda v: _is_int(v) and (v == 0 or 2 <= v <= MAX_FILM_FRAMES),
    ),
    "dataset.name": _NAME,
    "dataset.data_dir": _PATH,
    "dataset.manual_dir": _PATH,
    "dataset.path": _PATH,
    "dataset.test_path": _PATH,
    "dataset.channels": Field("0, 1 or 3", lambda v: _is_int(v) and v in (0, 1, 3)),
    "dataset.image_size": Field(
        f"0, or one or two integers from 1 to {MAX_IMAGE_SIZE}, as in 28 or 28,32", _is_image_size
    ),
    "dataset.transpose": _BOOLEAN,
    "dataset.label_names": _PATH,
    "dataset.train_split": _NAME,
    "dataset.test_split": _NAME,
    "dataset.feed": _one_of("auto", "device", "stream"),
    "model.features": _tuple_of(_integer(1), "integers >= 1, as in 8,16"),
    "model.stage_sizes": _tuple_of(
        _integer(1, MAX_STAGE_SIZE), f"integers from 1 to {MAX_STAGE_SIZE}, as in 1,2"
    ),
    "model.kernel_size": _integer(1, MAX_KERNEL_SIZE),
    "model.strides": _integer(1),
    "model.padding": _one_of("VALID", "SAME", "FULL"),
    "model.activation": _one_of("relu", "leaky_relu", "sigmoid"),
    "model.pool": _one_of("max", "avg", "none"),
    "model.init_stddev": _NOT_NEGATIVE,
    "augment.rotation_degrees": _real(0, 180),
    "augment.shear_degrees": _real(0, 60),
    "augment.scale": _real(0, 1),
    "augment.shift_pixels": _real(0, 100),
    "augment.stroke_pixels": _real(0, 1),
    "augment.strokes": _real(0, 1),
}


# Keys that configs saved by earlier versions lack, with the values that those versions stood for.
ADDED: Mapping[str, Any] = {
    "label_smoothing": 0.0,
    "evaluate_every_epochs": 1,
    "film_frames": 0,
    "dataset.path": "",
    "dataset.test_path": "",
    "dataset.channels": 0,
    "dataset.image_size": (0,),
    "dataset.transpose": False,
    "dataset.label_names": "",
    "model.stage_sizes": (1,),
    **{key: 0.0 for key in FIELDS if key.startswith("augment.")},
}


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
