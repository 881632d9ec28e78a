"""What every contender is given, and what it must be able to do."""

from collections.abc import Iterator
from typing import Protocol

BATCH_SIZE = 128
LEARNING_RATE = 0.05
EPOCHS = 10
LOG_EVERY = 50
SCORE_BATCH_SIZE = 100  # PyTorch's best: 131 ms for 10,000 images, 135 by 200, 151 by 500 (n = 7).


class Contender(Protocol):
    """A program that trains the reference network."""

    epochs: int

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first `num_steps` steps of epoch number `epoch`, which counts from 1."""

    def score(self, split: str) -> float:
        """Accuracy, 0..1, on `train` or `test`."""


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """Slices of at most batch_size that cover 0..count-1."""
    return (slice(start, start + batch_size) for start in range(0, count, batch_size))
