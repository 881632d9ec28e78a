"""The networks that `train_speed.py --table` trains, and the data that it generates for them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from cnn_jax import data
from configs import mnist

NUM_TRAIN = 25_600  # 200 batches of 128: more than a turn takes of all but the smallest batches.


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, and the shape of its images.

    Attributes:
      changes: values of a config that differ from those of `configs/mnist.py`, by dotted key.
      image_shape: (height, width, channels).
    """

    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    image_shape: tuple[int, int, int] = (28, 28, 1)

    @property
    def config(self) -> ConfigDict:
        """The reference config with the changes."""
        config = mnist.get_config()
        config.update_from_flattened_dict(self.changes)
        return config


NETWORKS: Mapping[str, Network] = {
    "reference": Network(),
    "batch-32": Network({"batch_size": 32}),
    "8-16-32": Network({"model.features": (8, 16, 32), "batch_size": 64}),
    "32-64": Network({"model.features": (32, 64)}),
    "32-64-128": Network({"model.features": (32, 64, 128)}),
    "5x5": Network({"model.kernel_size": 5}),
    "sigmoid": Network({"model.activation": "sigmoid"}),
    "average-pooling": Network({"model.pool": "avg"}),
    "stride-2": Network({"model.strides": 2, "model.pool": "none"}),
    "32x32x3": Network({"model.features": (16, 32, 64)}, (32, 32, 3)),
    "64x64": Network({"model.features": (8, 16, 32)}, (64, 64, 1)),
}


def generate(image_shape: tuple[int, int, int], num_train: int = NUM_TRAIN) -> data.Dataset:
    """Draws images and labels of ten classes: uniform noise, the same at every call.

    Args:
      image_shape: (height, width, channels).
      num_train: number of training examples; there is one test example.
    """
    random = np.random.default_rng(1)

    def draw(num_examples: int) -> data.Examples:
        image = random.integers(0, 256, (num_examples, *image_shape), np.uint8)
        return data.Examples(image, random.integers(0, 10, num_examples, np.int32))

    return data.Dataset(draw(num_train), draw(1))


def describe(dataset: data.Dataset) -> data.Info:
    """Returns the description of a data set of ten classes that is in memory."""
    return data.Info(
        dataset.train.image.shape[1:],
        tuple("0123456789"),
        (data.Part("train", 0, len(dataset.train.label)),),
        (data.Part("test", 0, len(dataset.test.label)),),
    )
