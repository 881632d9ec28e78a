from typing import Any

import numpy as np
import pytest

from cnn_jax.config import schema, sweep
from cnn_jax.config.sweep import SweptModel
from cnn_jax.errors import UserError
from tests.support.small import small_config


def test_seeds_and_numbers_make_the_networks() -> None:
    # Two rates, then within each two decays, then within each three seeds: 2 * 2 * 3.
    config = small_config(seed=7, num_models=3, learning_rate=(0.1, 0.2), weight_decay=[0.0, 1e-4])
    schema.check_fields(config)
    found = sweep.list_models(config)
    assert sweep.count_models(config) == len(found) == 12
    assert found[0] == SweptModel(7, {"learning_rate": 0.1, "weight_decay": 0.0})
    assert found[1] == SweptModel(8, {"learning_rate": 0.1, "weight_decay": 0.0})
    assert found[3] == SweptModel(7, {"learning_rate": 0.1, "weight_decay": 1e-4})
    assert found[11] == SweptModel(9, {"learning_rate": 0.2, "weight_decay": 1e-4})
    assert found[11].name == "seed 9, learning_rate 0.2, weight_decay 0.0001"
    assert sweep.describe(config) == "Networks: 12 = 2 learning_rate x 2 weight_decay x 3 seeds"
    seeds, swept = sweep.seeds_and_hyperparameters(config)
    assert seeds.tolist() == [7, 8, 9] * 4
    rates = np.array([0.1] * 6 + [0.2] * 6, np.float32)
    np.testing.assert_array_equal(swept["learning_rate"], rates)


def test_a_config_of_one_network_sweeps_nothing() -> None:
    config = small_config()
    assert sweep.list_models(config) == [SweptModel(1, {})]
    assert sweep.hyperparameter_combinations(config) == [{}]


def test_each_network_has_a_config_of_its_own() -> None:
    config = small_config(seed=7, num_models=3, learning_rate=(0.1, 0.2))
    alone = sweep.single_model_config(config, 4)
    assert alone.to_dict() == small_config(seed=8, learning_rate=0.2).to_dict()
    schema.check_fields(alone)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_models": 0}, r"num_models=0 is not allowed: allowed is a whole number of at least"),
        ({"learning_rate": (0.1, 0.1)}, "learning_rate=0.1,0.1 is not allowed.*different"),
        ({"learning_rate": (0.1, -1.0)}, "learning_rate=0.1,-1.0 is not allowed"),
        ({"learning_rate": ()}, "learning_rate= is not allowed"),
        ({"learning_rate": "0.1"}, "learning_rate=0.1 is not allowed"),
        ({"learning_rate": ((0.1,),)}, "learning_rate=.* is not allowed"),
        ({"momentum": (0.0, 1.0)}, "momentum=0.0,1.0 is not allowed"),
        # What one of the networks would silently ignore.
        ({"optimizer": "nesterov", "momentum": (0.9, 0.0)}, "leaves optimizer=nesterov nothing"),
        ({"optimizer": "adam", "weight_decay": (0.0, 0.1)}, "weight_decay=0.1 has no effect"),
        ({"seed": 2**32 - 1, "num_models": 2}, "the seeds from seed=4294967295 on would pass"),
        ({"num_models": 2**20 + 1}, "makes 1048577 networks, allowed are at most 1048576"),
    ],
)
def test_what_makes_no_networks_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        schema.check_fields(small_config(**changes))
