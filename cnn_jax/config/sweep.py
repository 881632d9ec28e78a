"""The networks that a run trains at once: their seeds, and the numbers in which they differ.

A field of the config that holds several numbers is an axis, and `num_models` seeds are the last
one: network k is that of seed `seed + k % num_models` and of the `k // num_models`-th combination
of the numbers, of which those of the last field change first.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

# Fields of which networks that are trained at once may have different values.
SWEEPABLE = ("learning_rate", "momentum", "weight_decay")


@dataclasses.dataclass(frozen=True)
class SweptModel:
    """In what a network differs from the others of its run.

    Attributes:
      seed: of its parameters and its order of the examples.
      swept: its value of each field that holds several.
    """

    seed: int
    swept: Mapping[str, float]

    @property
    def name(self) -> str:
        """As in `seed 3, learning_rate 0.1`."""
        return ", ".join([f"seed {self.seed}", *(f"{k} {v}" for k, v in self.swept.items())])


def swept_hyperparameters(config: ConfigDict) -> dict[str, tuple[float, ...]]:
    """The fields that hold several numbers."""
    return {k: tuple(config[k]) for k in SWEEPABLE if isinstance(config[k], tuple | list)}


def hyperparameter_combinations(config: ConfigDict) -> list[dict[str, float]]:
    """Every choice of one number for each of `axes`; a single empty one where there are none."""
    found = swept_hyperparameters(config)
    return [dict(zip(found, values, strict=True)) for values in itertools.product(*found.values())]


def count_models(config: ConfigDict) -> int:
    """How many networks a config trains."""
    return math.prod(map(len, swept_hyperparameters(config).values())) * int(config.num_models)


def list_models(config: ConfigDict) -> list[SweptModel]:
    """The networks of a config, in the order of the arrays' first axis."""
    seeds = range(config.seed, config.seed + config.num_models)
    return [
        SweptModel(seed, swept) for swept in hyperparameter_combinations(config) for seed in seeds
    ]


def single_model_config(config: ConfigDict, number: int) -> ConfigDict:
    """The config with which one of the networks would be trained by itself.

    Args:
      config: of several networks.
      number: of the network, from 0.
    """
    network = list_models(config)[number]
    content = {**config.to_dict(), **network.swept, "seed": network.seed, "num_models": 1}
    return ConfigDict(content).lock()


def seeds_and_hyperparameters(config: ConfigDict) -> tuple[npt.NDArray[np.uint32], dict[str, Any]]:
    """Seeds, uint32 [M], and swept numbers, float32 [M] each, of all networks."""
    found = list_models(config)
    seeds = np.array([network.seed for network in found], np.uint32)
    swept = {
        name: np.array([network.swept[name] for network in found], np.float32)
        for name in swept_hyperparameters(config)
    }
    return seeds, swept


def describe(config: ConfigDict) -> str:
    """One line that says which networks are trained, as in `3 learning_rate x 20 seeds`."""
    kinds = [f"{len(values)} {name}" for name, values in swept_hyperparameters(config).items()]
    return (
        f"Networks: {count_models(config)} = {' x '.join([*kinds, f'{config.num_models} seeds'])}"
    )
