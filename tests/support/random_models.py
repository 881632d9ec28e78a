"""Models with random parameters and every option, for tests of what must work with any model."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import settings

from cnn_jax.evaluation.trained import TrainedModel
from tests.support.small import small_config

# Each option occurs at least twice, combined with different others; the images are not square. The
# first seven have every value of every choice.
_MODEL_OPTIONS: list[dict[str, Any]] = [
    {},
    {"kernel_size": 2, "activation": "leaky_relu", "pool": "avg"},
    {"kernel_size": 4, "strides": 2, "pool": "none", "features": (3, 2, 4)},
    {"kernel_size": 4, "padding": "FULL", "activation": "sigmoid", "features": (3,)},
    {"kernel_size": 3, "padding": "VALID", "activation": "leaky_relu"},
    {"kernel_size": 2, "padding": "VALID", "strides": 2, "pool": "none", "activation": "sigmoid"},
    {"stage_sizes": (2, 3), "padding": "FULL", "strides": 2},
    {"kernel_size": 1, "strides": 3, "features": (5,), "pool": "avg"},
    {"kernel_size": 5, "padding": "FULL", "strides": 3, "pool": "avg", "activation": "leaky_relu"},
    {"kernel_size": 3, "padding": "FULL", "pool": "none", "features": (2, 2, 2, 2)},
    {"kernel_size": 6, "padding": "VALID", "pool": "avg", "features": (4,)},
    {"kernel_size": 7, "strides": 2, "features": (2,)},
    {"stage_sizes": (1, 2), "kernel_size": 4, "pool": "avg", "activation": "sigmoid"},
]


def model_options() -> list[dict[str, Any]]:
    """Returns options for a parametrized test: seven, or all with hypothesis' profile "ci"."""
    is_thorough = settings.get_current_profile_name() == "ci"
    return _MODEL_OPTIONS if is_thorough else _MODEL_OPTIONS[:7]


def random_model(
    image_shape: tuple[int, int, int] = (17, 14, 3),
    class_names: Sequence[str] = ("cat", "dog", "cow", "hen", "pig"),
    scale: float = 1.0,
    **model: Any,
) -> TrainedModel:
    """Returns a model whose parameters are all nonzero, and whose feature maps stay near 1.

    Args:
      image_shape: (height, width, channels).
      class_names: name of each class, in the order of the logits.
      scale: factor of the standard deviation of the parameters.
      model: fields of `config.model` that differ from the reference config.
    """
    config = small_config(**{f"model.{name}": value for name, value in model.items()})
    trained = TrainedModel(Path("nowhere"), 0, config, image_shape, tuple(class_names), None)
    image = jnp.zeros((1, *image_shape))
    shapes = jax.eval_shape(trained.model.init, jax.random.key(0), image)["params"]
    generator = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> Any:
        stddev = scale * math.sqrt(2 / (math.prod(leaf.shape[:-1]) or 1))
        return generator.normal(0, stddev, leaf.shape).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    return dataclasses.replace(trained, params=params)


def random_images(trained: TrainedModel, batch_size: int) -> Any:
    """Returns the images of a fixed seed, uint8 [batch_size, H, W, C]."""
    return np.random.default_rng(1).integers(0, 256, (batch_size, *trained.image_shape), np.uint8)
