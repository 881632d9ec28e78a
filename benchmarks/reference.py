"""Hyperparameters of the reference training, and the interface of every contender."""

from collections.abc import Iterator
from typing import Protocol

BATCH_SIZE = 128
LEARNING_RATE = 0.05
EPOCHS = 10
LOG_EVERY_STEPS = 50
# The fastest for PyTorch: 131 ms for 10,000 images, against 135 with 200 and 151 with 500 (n = 7).
EVAL_BATCH_SIZE = 100


class Contender(Protocol):
    """A program that trains a network.

    Attributes:
      epochs: number of epochs that it trains for.
      batch_size: examples per step.
    """

    epochs: int
    batch_size: int

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first `num_steps` steps of an epoch; `epoch` counts from 1."""

    def evaluate(self, split: str) -> float:
        """Returns the accuracy, 0..1, on the split `train` or `test`."""


def batch_slices(num_examples: int, batch_size: int) -> Iterator[slice]:
    """Yields consecutive slices of at most `batch_size` that cover 0..num_examples-1."""
    return (slice(start, start + batch_size) for start in range(0, num_examples, batch_size))
