"""The models that one run trains at once: their seeds and their swept hyperparameters.

Each config field that holds several values is an axis of the sweep, and the seeds are the last
axis. Model k has the seed `seed + k % num_models` and the `k // num_models`-th combination of
hyperparameters, in which the last swept field varies fastest.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from cnn_jax.wording import pluralize

# Config fields that may differ between the models of one run.
SWEEPABLE = ("learning_rate", "momentum", "weight_decay")


@dataclasses.dataclass(frozen=True)
class SweptModel:
    """The seed and the swept hyperparameters of one model of a run.

    Attributes:
      seed: seed of its initial parameters and of its order of the examples.
      swept: its value of each swept field.
    """

    seed: int
    swept: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the model, such as `seed 3, learning_rate 0.1`."""
        return ", ".join([f"seed {self.seed}", *(f"{k} {v}" for k, v in self.swept.items())])


def swept_hyperparameters(config: ConfigDict) -> dict[str, tuple[float, ...]]:
    """Returns the swept fields: those that hold several values, with the values."""
    return {k: tuple(config[k]) for k in SWEEPABLE if isinstance(config[k], tuple | list)}


def hyperparameter_combinations(config: ConfigDict) -> list[dict[str, float]]:
    """Returns every combination of the swept hyperparameters; one empty dict if none is swept."""
    swept = swept_hyperparameters(config)
    return [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]


def count_models(config: ConfigDict) -> int:
    """Returns the number of models that a config trains."""
    return math.prod(map(len, swept_hyperparameters(config).values())) * int(config.num_models)


def list_models(config: ConfigDict) -> list[SweptModel]:
    """Returns the models of a config, in the order of the model axis of all arrays."""
    seeds = range(config.seed, config.seed + config.num_models)
    return [
        SweptModel(seed, swept) for swept in hyperparameter_combinations(config) for seed in seeds
    ]


def single_model_config(config: ConfigDict, model_index: int) -> ConfigDict:
    """Returns the config that trains one model of a sweep alone.

    Args:
      config: config of several models.
      model_index: index of the model, from 0.

    Returns:
      A locked config with the seed and the hyperparameters of that model.
    """
    model = list_models(config)[model_index]
    content = {**config.to_dict(), **model.swept, "seed": model.seed, "num_models": 1}
    return ConfigDict(content).lock()


def seeds_and_hyperparameters(config: ConfigDict) -> tuple[npt.NDArray[np.uint32], dict[str, Any]]:
    """Returns the seeds and the swept hyperparameters of all models as arrays.

    Args:
      config: config of M models.

    Returns:
      Seeds, uint32 [M], and for each swept field its values, float32 [M].
    """
    models = list_models(config)
    seeds = np.array([model.seed for model in models], np.uint32)
    swept = {
        name: np.array([model.swept[name] for model in models], np.float32)
        for name in swept_hyperparameters(config)
    }
    return seeds, swept


def describe(config: ConfigDict) -> str:
    """Describes how many models are trained: `Models: 60 = 3 learning_rate x 20 seeds`."""
    axes = [f"{len(values)} {name}" for name, values in swept_hyperparameters(config).items()]
    axes.append(pluralize(config.num_models, "seed"))
    return f"Models: {count_models(config)} = {' x '.join(axes)}"
