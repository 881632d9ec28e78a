from typing import Any

import numpy as np
import pytest

from cnn_jax.config import schema, sweep
from cnn_jax.config.sweep import SweptModel
from cnn_jax.errors import UserError
from tests.support.small import small_config


def test_models_of_a_sweep_combine_hyperparameters_and_seeds() -> None:
    # Two learning rates, for each two weight decays, for each three seeds: 2 * 2 * 3 = 12 models.
    config = small_config(seed=7, num_models=3, learning_rate=(0.1, 0.2), weight_decay=[0.0, 1e-4])
    schema.check_fields(config)
    models = sweep.list_models(config)
    assert sweep.count_models(config) == len(models) == 12
    assert models[0] == SweptModel(7, {"learning_rate": 0.1, "weight_decay": 0.0})
    assert models[1] == SweptModel(8, {"learning_rate": 0.1, "weight_decay": 0.0})
    assert models[3] == SweptModel(7, {"learning_rate": 0.1, "weight_decay": 1e-4})
    assert models[11] == SweptModel(9, {"learning_rate": 0.2, "weight_decay": 1e-4})
    assert models[11].name == "seed 9, learning_rate 0.2, weight_decay 0.0001"
    assert sweep.describe(config) == "Models: 12 = 2 learning_rate x 2 weight_decay x 3 seeds"
    one_seed = small_config(learning_rate=(0.1, 0.2))
    assert sweep.describe(one_seed) == "Models: 2 = 2 learning_rate x 1 seed"
    seeds, swept = sweep.seeds_and_hyperparameters(config)
    assert seeds.tolist() == [7, 8, 9] * 4
    rates = np.array([0.1] * 6 + [0.2] * 6, np.float32)
    np.testing.assert_array_equal(swept["learning_rate"], rates)


def test_config_of_one_model_has_nothing_to_sweep() -> None:
    config = small_config()
    assert sweep.list_models(config) == [SweptModel(1, {})]
    assert sweep.hyperparameter_combinations(config) == [{}]


def test_single_model_of_a_sweep_has_its_own_config() -> None:
    config = small_config(seed=7, num_models=3, learning_rate=(0.1, 0.2))
    # Model 4 of 2 x 3: the second learning rate, the second seed.
    single = sweep.single_model_config(config, 4)
    assert single.to_dict() == small_config(seed=8, learning_rate=0.2).to_dict()
    schema.check_fields(single)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_models": 0}, "num_models=0 is invalid: it must be an integer >= 1"),
        ({"learning_rate": (0.1, 0.1)}, "learning_rate=0.1,0.1 is invalid.*several distinct ones"),
        ({"learning_rate": (0.1, -1.0)}, "learning_rate=0.1,-1.0 is invalid"),
        ({"learning_rate": ()}, "learning_rate= is invalid"),
        ({"learning_rate": "0.1"}, "learning_rate=0.1 is invalid"),
        ({"learning_rate": ((0.1,),)}, "learning_rate=.* is invalid"),
        ({"momentum": (0.0, 1.0)}, "momentum=0.0,1.0 is invalid"),
        # A value that some of the models would silently ignore.
        ({"optimizer": "nesterov", "momentum": (0.9, 0.0)}, "momentum=0 is invalid.*must be > 0"),
        (
            {"optimizer": "adam", "weight_decay": (0.0, 0.1)},
            "weight_decay=0.1 is invalid.* ignores it",
        ),
        (
            {"seed": 2**32 - 1, "num_models": 2},
            "the last seed, 4294967296, must be at most 4294967295.*seed=4294967295",
        ),
        (
            {"num_models": 2**20 + 1},
            "the config makes 1048577 models: a run must train at most 1048576",
        ),
    ],
)
def test_invalid_sweep_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        schema.check_fields(small_config(**changes))
