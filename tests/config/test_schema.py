import json
from importlib import import_module
from typing import Any

import pytest
from ml_collections import ConfigDict

from cnn_jax.config import changes, fields, flag_errors, schema
from cnn_jax.errors import UserError

CONFIG_NAMES = (
    *("mnist", "mnist_fast", "mnist_99", "mnist_record", "handwriting"),
    *("fashion_mnist", "kmnist", "digits"),
)


def config_with(**values: Any) -> ConfigDict:
    config: ConfigDict = import_module("configs.mnist").get_config()
    with config.ignore_type():
        config.update_from_flattened_dict(values)
    return config


def message_of(**values: Any) -> str:
    with pytest.raises(UserError) as error:
        schema.check(config_with(**values))
    return str(error.value)


@pytest.mark.parametrize("name", CONFIG_NAMES)
def test_every_bundled_config_is_valid_and_locked(name: str) -> None:
    config = import_module(f"configs.{name}").get_config()
    schema.check(config)
    with pytest.raises(AttributeError):
        config.unknown_key = 1


def test_reference_config_matches_the_tutorial() -> None:
    config = import_module("configs.mnist").get_config()
    assert config.seed == 1
    assert (config.num_epochs, config.batch_size) == (10, 128)
    assert (config.optimizer, config.learning_rate) == ("sgd", 0.05)
    assert (config.momentum, config.weight_decay, config.schedule) == (0, 0, "constant")
    assert config.deterministic
    assert config.log_every_steps == 50
    assert config.model.to_dict() == {
        "features": (8, 16),
        "stage_sizes": (1,),
        "kernel_size": 3,
        "strides": 1,
        "padding": "SAME",
        "activation": "relu",
        "pool": "max",
        "init_stddev": 0.01,
    }


@pytest.mark.parametrize(
    ("name", "reference_name"), [("fashion_mnist", "mnist"), ("kmnist", "mnist")]
)
def test_variant_configs_differ_only_in_the_data_set(name: str, reference_name: str) -> None:
    variant = import_module(f"configs.{name}").get_config()
    reference = import_module(f"configs.{reference_name}").get_config()
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
        ("film_frames", 1),
        ("film_frames", 1001),
        ("film_frames", True),
        ("dataset.name", ""),
        ("dataset.train_split", ""),
        ("dataset.data_dir", None),
        ("model.features", ()),
        ("model.features", (8, 0)),
        ("model.features", (8, 1.5)),
        ("model.features", 8),
        ("model.stage_sizes", ()),
        ("model.stage_sizes", (1, 0)),
        ("model.stage_sizes", (1, 101)),
        ("model.stage_sizes", 2),
        ("label_smoothing", -0.1),
        ("label_smoothing", 1.0),
        ("learning_rate", 1e300),
        ("model.kernel_size", 0),
        ("model.kernel_size", 16),
        ("model.strides", 0),
        ("model.padding", "same"),
        ("model.activation", "gelu"),
        ("model.pool", "min"),
        ("model.init_stddev", -0.1),
        ("augment.rotation_degrees", 181.0),
        ("augment.shear_degrees", -1.0),
        ("augment.scale", 1.5),
        ("augment.shift_pixels", float("nan")),
        ("augment.stroke_pixels", 2.0),
        ("augment.strokes", -0.5),
    ],
)
def test_invalid_value_is_reported_with_the_requirement(key: str, value: Any) -> None:
    message = message_of(**{key: value})
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    requirement = fields.FIELDS[key].requirement
    assert message.startswith(f"{key}={text} is invalid: it must be {requirement}. ")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("model.activation", "rellu", "Did you mean relu?"),
        ("model.padding", "same", "Did you mean SAME?"),
        ("schedule", "onecycle", "Did you mean one_cycle?"),
        ("optimizer", "adam_w", "Did you mean adamw?"),
    ],
)
def test_misspelt_name_is_answered_with_the_most_similar(key: str, value: str, hint: str) -> None:
    assert message_of(**{key: value}).endswith(hint)


@pytest.mark.parametrize(
    ("key", "similar"),
    [
        ("sed", "seed"),
        ("lerning_rate", "learning_rate"),
        ("kernel_size", "model.kernel_size"),
        ("model.kernel", "model.kernel_size"),
        ("dataset.trian_split", "dataset.train_split"),
    ],
)
def test_unknown_key_is_answered_with_the_most_similar(key: str, similar: str) -> None:
    with pytest.raises(UserError, match=f"config key {key}=3 is unknown.*mean {similar}\\?"):
        flag_errors.check_config_arguments(["main.py", f"--config.{key}=3"])
    config = config_with()
    with config.unlocked():
        config.update_from_flattened_dict({key: 3})
    with pytest.raises(UserError, match=f"config key {key}=3 is unknown.*mean {similar}\\?"):
        schema.check(config)


def test_unknown_key_unlike_any_other_is_reported_without_a_guess() -> None:
    with pytest.raises(
        UserError, match=r"qqq=1 is unknown: the key must be one of seed, .*Remove it"
    ):
        flag_errors.check_config_arguments(["--config.qqq=1"])


def test_known_overrides_are_accepted() -> None:
    flag_errors.check_config_arguments(["--config=configs/mnist.py", "--config.seed=2"])


def test_missing_key_is_reported() -> None:
    config = config_with()
    with config.unlocked():
        del config.model["pool"]
    with pytest.raises(UserError, match=r"key model\.pool is missing: it must be one of max"):
        schema.check(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adam", "momentum": 0.9}, "momentum=0.9 is invalid: it must be 0 with"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "weight_decay=0.1 is invalid: it must be 0"),
        ({"optimizer": "nesterov"}, "momentum=0 is invalid: it must be > 0"),
    ],
)
def test_hyperparameter_that_the_optimizer_ignores_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    assert message_of(**changes).startswith(words)


def test_strokes_are_refused_where_there_are_no_digits() -> None:
    message = message_of(**{"augment.strokes": 0.5, "dataset.name": "fashion_mnist"})
    assert message == (
        "augment.strokes=0.5 is invalid: it must be 0 with dataset.name=fashion_mnist, which has "
        "no grey images of the digits 0 to 9. Use augment.strokes=0."
    )
    schema.check(config_with(**{"augment.strokes": 0.5, "dataset.name": "digits"}))


def test_configs_of_earlier_versions_stand_for_no_augmentation() -> None:
    config = config_with()
    earlier = json.loads(json.dumps(config.to_dict()))
    del earlier["augment"]
    assert schema.from_json(earlier).to_dict() == config.to_dict()
    assert changes.describe_changes(config, earlier) == []
    augmented = config_with(**{"augment.scale": 0.5})
    assert changes.describe_changes(augmented, earlier) == ["augment.scale was 0.0 and is 0.5"]


def test_integer_is_accepted_for_a_real_field() -> None:
    schema.check(config_with(learning_rate=1))


def test_kernel_larger_than_its_input_is_refused() -> None:
    message = message_of(**{"model.kernel_size": 15, "model.padding": "VALID"})
    assert "model.kernel_size=15 is too large for conv_2, whose input is 7x7" in message


@pytest.mark.parametrize("sizes", [(2,), (1, 1, 2)])
def test_another_number_of_stage_sizes_than_stages_is_refused(sizes: tuple[int, ...]) -> None:
    text = ",".join(map(str, sizes))
    assert message_of(**{"model.stage_sizes": sizes}) == (
        f"model.stage_sizes={text} is invalid: it must be one number for each of the 2 stages of "
        "model.features=8,16, or 1 for one convolution in every stage. Change model.stage_sizes."
    )


def test_saved_config_without_later_keys_stands_for_their_defaults() -> None:
    config = config_with(seed=7)
    saved = json.loads(config.to_json())
    del saved["model"]["stage_sizes"], saved["label_smoothing"], saved["augment"]
    assert schema.from_json(saved).to_dict() == config.to_dict()
    assert changes.describe_changes(config, saved) == []
    deeper = config_with(seed=7, **{"model.stage_sizes": (1, 2)})
    assert changes.describe_changes(deeper, saved) == ["model.stage_sizes was 1 and is 1,2"]


def test_batch_larger_than_the_training_set_is_refused() -> None:
    message = message_of(**{"dataset.train_split": "train[:100]", "batch_size": 101})
    assert message.startswith("batch_size=101 is invalid: it must be at most 100, the number of")


def test_run_that_would_never_end_is_refused() -> None:
    # Batches of one make 60,000 steps per epoch: step 2^31 - 1 = 2,147,483,647 is in epoch 35,792,
    # which ends after 35,792 * 60,000 = 2,147,520,000 steps.
    message = message_of(num_epochs=35_792, batch_size=1)
    assert message.startswith("num_epochs=35792 is invalid: the run must take at most 2147483647 ")
    assert "takes 2147520000" in message
    # 9 * 784 products for each of 10^13 filters, then 10 for each of 196 * 10^13 inputs: 9.0e16.
    message = message_of(**{"model.features": (10**13,)})
    assert message.startswith(
        "model.features=10000000000000 is invalid: an image must take at most"
    )
    assert "1e+12 multiply-adds, and takes 9.0e+16" in message


def test_check_returns_the_description_of_the_data_set() -> None:
    info = schema.check(config_with(**{"dataset.train_split": "train[:50000]"}))
    assert (info.image_shape, info.num_classes, info.num_train) == ((28, 28, 1), 10, 50_000)
