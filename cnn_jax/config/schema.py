"""Which config values are allowed, and clear words for those that are not.

Everything here runs on the host before anything is traced, downloaded or written.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.errors import UserError
from cnn_jax.nn import shapes

MAX_STEPS = 2**31 - 1  # Steps are counted in 32 bits.
MAX_REAL = 3.4e38  # Of float32.
MAX_MULTIPLY_ADDS = 10**12  # A thousand times a large network for small images: beyond it, a slip.
MAX_KERNEL = 15  # Programs grow with its square: at 31 one compiles for minutes.
MAX_NETWORKS = 2**20  # Trained at once: beyond it, a slip.
MAX_SEED = 2**32 - 1  # JAX takes the seed modulo 2**32: a larger one would repeat another's run.


@dataclasses.dataclass(frozen=True)
class Field:
    """What a config value may be.

    Attributes:
      allowed: the allowed values, in words that complete "allowed is ...".
      is_allowed: whether a value is one of them; never raises.
    """

    allowed: str
    is_allowed: Callable[[Any], bool]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and abs(value) <= MAX_REAL


def _integer(low: int, high: int | None = None) -> Field:
    words = f"a whole number of at least {low}" if high is None else f"a whole number {low}..{high}"
    return Field(words, lambda v: _is_int(v) and v >= low and (high is None or v <= high))


def _one_of(*names: str) -> Field:
    return Field("one of " + ", ".join(names), lambda v: isinstance(v, str) and v in names)


_POSITIVE = Field("a number above 0, within float32", lambda v: _is_real(v) and v > 0)
_NOT_NEGATIVE = Field("a number of at least 0, within float32", lambda v: _is_real(v) and v >= 0)
_PATH = Field("a path or an empty text", lambda v: isinstance(v, str) and "\0" not in v)
_NAME = Field("a text that is not empty", lambda v: isinstance(v, str) and v != "")


def _sweepable(field: Field) -> Field:
    """A number, or several that networks trained at once differ in."""

    def is_allowed(value: Any) -> bool:
        if not isinstance(value, tuple | list):
            return field.is_allowed(value)
        return all(map(field.is_allowed, value)) and 0 < len(value) == len(set(value))

    return Field(f"{field.allowed}, or several different ones as in 0.05,0.1", is_allowed)


FIELDS: Mapping[str, Field] = {
    "seed": _integer(0, MAX_SEED),
    "num_models": _integer(1),
    "num_epochs": _integer(1),
    "batch_size": _integer(1),
    "learning_rate": _sweepable(_POSITIVE),
    "optimizer": _one_of("sgd", "nesterov", "adam", "adamw"),
    "momentum": _sweepable(
        Field("a number from 0 up to, not including, 1", lambda v: _is_real(v) and 0 <= v < 1)
    ),
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
        "one or more whole numbers of at least 1, as in 8,16",
        lambda v: isinstance(v, tuple) and len(v) > 0 and all(_is_int(n) and n >= 1 for n in v),
    ),
    "model.kernel_size": _integer(1, MAX_KERNEL),
    "model.strides": _integer(1),
    "model.padding": _one_of("VALID", "SAME", "FULL"),
    "model.activation": _one_of("relu", "leaky_relu", "sigmoid"),
    "model.pool": _one_of("max", "avg", "none"),
    "model.init_stddev": _NOT_NEGATIVE,
}


# Keys that the first checkpoints do not have yet, with the values by which those runs were made.
YOUNGER: Mapping[str, Any] = {"num_models": 1, "dataset": {"feed": "auto"}}


def check(config: ConfigDict) -> data.Info:
    """Checks a whole config: its fields, the data set's description, the network's shapes.

    Args:
      config: as `configs/mnist.py` makes it.

    Returns:
      What is known of the data set.

    Raises:
      UserError: naming the key, its value and what is allowed, for the first thing that is wrong.
    """
    check_fields(config)
    info = describe_data(config)
    work = sum(layer.multiply_adds for layer in walk_layers(config, info))
    if work > MAX_MULTIPLY_ADDS:
        raise UserError(
            f"model.features={show(config.model.features)} takes {work:.1e} multiply-adds an "
            f"image: allowed is at most {MAX_MULTIPLY_ADDS:.0e}. Use fewer features."
        )
    if config.batch_size > info.num_train:
        raise UserError(
            f"batch_size={config.batch_size} is not allowed: allowed is at most {info.num_train}, "
            f"the examples of dataset.train_split={config.dataset.train_split}. Change batch_size."
        )
    steps = config.num_epochs * -(-info.num_train // config.batch_size)
    if steps > MAX_STEPS:
        raise UserError(
            f"num_epochs={config.num_epochs} is not allowed: it takes {steps} steps, allowed is at "
            f"most {MAX_STEPS}. Use fewer epochs."
        )
    return info


def from_json(content: Any) -> ConfigDict:
    """The config that was written as JSON, where tuples have become lists.

    Raises:
      UserError: when no config was written there.
    """
    try:
        model = {**content["model"], "features": tuple(content["model"]["features"])}
        dataset = {**YOUNGER["dataset"], **content["dataset"]}
        config = ConfigDict({**YOUNGER, **content, "dataset": dataset, "model": model}).lock()
    except Exception as error:  # ConfigDict raises whatever it likes.
        raise UserError(
            f"what was saved as a config is none ({error}): allowed is what this program saved. "
            "Choose another --workdir."
        ) from error
    check_fields(config)
    return config


def describe_data(config: ConfigDict) -> data.Info:
    """Shapes and sizes of the config's data set, without a download."""
    return data.describe(
        config.dataset.name,
        data_dir=config.dataset.data_dir,
        train_split=config.dataset.train_split,
        test_split=config.dataset.test_split,
    )


def walk_layers(config: ConfigDict, info: data.Info) -> Iterator[shapes.Layer]:
    """The layers of the config's network; see `shapes.walk_layers`."""
    model = {key: value for key, value in config.model.items() if key != "init_stddev"}
    return shapes.walk_layers(info.image_shape, info.num_classes, **model)


def check_fields(config: ConfigDict) -> None:
    """Checks every field by itself, and the rules that hold between fields.

    Raises:
      UserError: as `check` does.
    """
    values = dict(leaves(config))
    for key in values:
        if key not in FIELDS:
            raise unknown_key(key, values[key])
    for key, field in FIELDS.items():
        if key not in values:
            raise UserError(f"the config has no {key}: allowed is {field.allowed}. Set it.")
        if not field.is_allowed(values[key]):
            raise invalid_value(key, values[key])
    _check_networks(config)
    _check_optimizer(config)


def _check_optimizer(config: ConfigDict) -> None:
    """A setting that its optimizer would silently ignore is a mistake, so it is refused."""
    optimizer = config.optimizer
    for numbers in sweep.hyperparameter_combinations(config):
        momentum = numbers.get("momentum", config.momentum)
        weight_decay = numbers.get("weight_decay", config.weight_decay)
        if optimizer in ("adam", "adamw") and momentum != 0:
            raise UserError(
                f"momentum={momentum} has no effect with optimizer={optimizer}: allowed is 0. "
                "Use momentum=0, or optimizer=sgd."
            )
        if optimizer == "nesterov" and momentum == 0:
            raise UserError(
                "momentum=0 leaves optimizer=nesterov nothing to do: allowed is a number above 0 "
                "and below 1. Use momentum=0.9, or optimizer=sgd."
            )
        if optimizer == "adam" and weight_decay != 0:
            raise UserError(
                f"weight_decay={weight_decay} has no effect with optimizer=adam: allowed is 0. "
                "Use optimizer=adamw, or weight_decay=0."
            )


def _check_networks(config: ConfigDict) -> None:
    if config.seed + config.num_models - 1 > MAX_SEED:
        raise UserError(
            f"num_models={config.num_models} is not allowed: the seeds from seed={config.seed} on "
            f"would pass {MAX_SEED}. Use fewer, or a smaller seed."
        )
    if (count := sweep.count_models(config)) > MAX_NETWORKS:
        raise UserError(
            f"num_models={config.num_models} is not allowed: it makes {count} networks, allowed "
            f"are at most {MAX_NETWORKS}. Use fewer."
        )


def unknown_key(key: str, value: Any) -> UserError:
    """The error for a key that no config has, with the nearest one that there is."""
    near = difflib.get_close_matches(key, FIELDS, n=1, cutoff=0.5)
    # Somebody who leaves out the group ("kernel_size") means "model.kernel_size".
    near = [name for name in FIELDS if name.endswith("." + key)] or near
    hint = f"Did you mean {near[0]}?" if near else "Remove it."
    return UserError(
        f"config key {key}={value} is unknown: allowed are {', '.join(FIELDS)}. {hint}"
    )


def invalid_value(key: str, value: Any) -> UserError:
    """The error for a value that its field does not allow."""
    field = FIELDS[key]
    hint = f"Change {key}."
    if isinstance(value, str) and field.allowed.startswith("one of "):
        names = field.allowed.removeprefix("one of ").split(", ")
        lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(value.lower(), lower, n=1, cutoff=0.5)
        hint = f"Did you mean {lower[near[0]]}?" if near else hint
    return UserError(f"{key}={show(value)} is not allowed: allowed is {field.allowed}. {hint}")


def show(value: Any) -> str:
    """The value on one line; tuples, which are lists in JSON, as one would type them."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def leaves(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of every leaf; an empty group shows up as its own key."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping | ConfigDict) and len(value):
            found += leaves(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found
