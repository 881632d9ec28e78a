from importlib import import_module
from typing import Any

import pytest
from ml_collections import ConfigDict

from cnn_jax.config import flags, schema
from cnn_jax.errors import UserError

NAMES = ("mnist", "mnist_fast", "mnist_99", "fashion_mnist", "kmnist", "digits")


def config_with(**changes: Any) -> ConfigDict:
    config: ConfigDict = import_module("configs.mnist").get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(changes)
    return config


def message_of(**changes: Any) -> str:
    with pytest.raises(UserError) as error:
        schema.check(config_with(**changes))
    return str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_allowed_and_locked(name: str) -> None:
    config = import_module(f"configs.{name}").get_config()
    schema.check(config)
    with pytest.raises(AttributeError):
        config.unheard_of = 1


def test_the_reference_recipe_is_that_of_the_tutorial() -> None:
    config = import_module("configs.mnist").get_config()
    assert config.seed == 1
    assert (config.num_epochs, config.batch_size) == (10, 128)
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.05)
    assert (config.momentum, config.weight_decay, config.schedule) == (0, 0, "constant")
    assert config.deterministic
    assert config.log_every_steps == 50
    assert config.model.to_dict() == {
        "features": (8, 16),
        "kernel_size": 3,
        "strides": 1,
        "padding": "SAME",
        "activation": "relu",
        "pool": "max",
        "init_stddev": 0.01,
    }


@pytest.mark.parametrize(("name", "other"), [("fashion_mnist", "mnist"), ("kmnist", "mnist")])
def test_its_variants_differ_in_the_data_set_alone(name: str, other: str) -> None:
    variant = import_module(f"configs.{name}").get_config()
    reference = import_module(f"configs.{other}").get_config()
    assert variant.dataset.name == name
    variant.dataset.name = reference.dataset.name
    assert variant.to_dict() == reference.to_dict()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 2**32),
        ("seed", True),
        ("seed", 1.5),
        ("num_epochs", 0),
        ("batch_size", 0),
        ("batch_size", "128"),
        ("learning_rate", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("optimizer", "lamb"),
        ("schedule", "linear"),
        ("deterministic", 1),
        ("log_every_steps", 0),
        ("dataset.name", ""),
        ("dataset.train_split", ""),
        ("dataset.data_dir", None),
        ("model.features", ()),
        ("model.features", (8, 0)),
        ("model.features", (8, 1.5)),
        ("model.features", 8),
        ("learning_rate", 1e300),
        ("model.kernel_size", 0),
        ("model.kernel_size", 16),
        ("model.strides", 0),
        ("model.padding", "same"),
        ("model.activation", "gelu"),
        ("model.pool", "min"),
        ("model.init_stddev", -0.1),
    ],
)
def test_an_impossible_value_is_named_with_what_is_allowed(key: str, value: Any) -> None:
    message = message_of(**{key: value})
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert message.startswith(f"{key}={shown} is not allowed: allowed is ")
    assert schema.FIELDS[key].allowed in message


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("model.activation", "rellu", "Did you mean relu?"),
        ("model.padding", "same", "Did you mean SAME?"),
        ("schedule", "onecycle", "Did you mean one_cycle?"),
        ("optimizer", "adam_w", "Did you mean adamw?"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(key: str, value: str, hint: str) -> None:
    assert message_of(**{key: value}).endswith(hint)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("sed", "seed"),
        ("lerning_rate", "learning_rate"),
        ("kernel_size", "model.kernel_size"),
        ("model.kernel", "model.kernel_size"),
        ("dataset.trian_split", "dataset.train_split"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"config key {key}=3 is unknown.*mean {nearest}\\?"):
        flags.check_overrides(["main.py", f"--config.{key}=3"])
    config = config_with()
    with config.unlocked():
        config.update_from_flattened_dict({key: 3})
    with pytest.raises(UserError, match=f"config key {key}=3 is unknown.*mean {nearest}\\?"):
        schema.check(config)


def test_a_key_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(UserError, match=r"qqq=1 is unknown: allowed are seed, .*Remove it"):
        flags.check_overrides(["--config.qqq=1"])


def test_known_overrides_pass() -> None:
    flags.check_overrides(["--config=configs/mnist.py", "--config.seed=2", "--noconfig.x.y"][:2])


def test_a_missing_key_is_named() -> None:
    config = config_with()
    with config.unlocked():
        del config.model["pool"]
    with pytest.raises(UserError, match=r"no model\.pool: allowed is one of max"):
        schema.check(config)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"optimizer": "adam", "momentum": 0.9}, "momentum=0.9"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "weight_decay=0.1"),
        ({"optimizer": "nesterov"}, "momentum=0"),
    ],
)
def test_a_setting_without_effect_is_refused(changes: dict[str, Any], key: str) -> None:
    assert message_of(**changes).startswith(key)


def test_whole_numbers_are_real_numbers() -> None:
    schema.check(config_with(learning_rate=1))


def test_a_kernel_larger_than_what_is_left_is_refused() -> None:
    message = message_of(**{"model.kernel_size": 15, "model.padding": "VALID"})
    assert "model.kernel_size=15 leaves nothing after conv_2" in message


def test_a_batch_larger_than_the_training_set_is_refused() -> None:
    message = message_of(**{"dataset.train_split": "train[:100]", "batch_size": 101})
    assert message.startswith("batch_size=101 is not allowed: allowed is at most 100")


def test_what_would_take_for_ever_is_refused() -> None:
    # 60,000 images one by one are 60,000 steps an epoch: 2^31 - 1 of them end in epoch 35,792.
    assert message_of(num_epochs=35_792, batch_size=1).startswith("num_epochs=35792 is not allowed")
    # 9 * 784 products for each of 10^13 filters, then 10 for each of 196 * 10^13 inputs: 9.0e16.
    message = message_of(**{"model.features": (10**13,)})
    assert message.startswith("model.features=10000000000000 takes 9.0e+16 multiply-adds")


def test_what_is_known_of_the_data_comes_back() -> None:
    info = schema.check(config_with(**{"dataset.train_split": "train[:50000]"}))
    assert (info.image_shape, info.num_classes, info.num_train) == ((28, 28, 1), 10, 50_000)
