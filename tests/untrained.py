"""A network as it is before any training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.model import ConvNet
from cnn_jax.trained import Trained
from tests.small import small_config


def untrained(
    image_shape: tuple[int, int, int] = (8, 8, 1),
    class_names: Sequence[str] = ("cat", "dog", "cow"),
    **model: Any,
) -> Trained:
    """One with random parameters; `model` are fields of the config's `model`."""
    config = small_config(**{f"model.{key}": value for key, value in model.items()})
    net = ConvNet(num_classes=len(class_names), **config.model)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *image_shape)))["params"]
    generator = np.random.default_rng(0)  # Without JAX's, which would have to be compiled.

    def draw(leaf: jax.ShapeDtypeStruct) -> Any:
        scale = math.sqrt(2 / math.prod(leaf.shape[:-1]))
        return generator.normal(0, scale, leaf.shape).astype(np.float32)

    params = jax.tree.map(draw, shapes)
    return Trained(Path("nowhere"), 0, config, image_shape, tuple(class_names), params)
