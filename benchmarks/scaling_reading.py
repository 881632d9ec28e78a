"""Reads a stream without training on it, for `scaling.py`:

    python -m benchmarks.scaling_reading WORKERS DATASET STEPS TURNS [FOLDER]

It obeys the order `read`: as many images, drawn at random, as so many steps train on.
"""

import sys

import numpy as np

from benchmarks.contender import BATCH_SIZE
from benchmarks.orders import obey
from cnn_jax import data

BATCHES = 10  # Of an element: so few that a turn has several, which workers can share.


def main(num_workers: str, dataset: str, steps: str, turns: str, folder: str = "") -> None:
    """Obeys the orders of standard input, until it ends."""
    num_train = data.describe(dataset).num_train
    batches = min(int(steps), BATCHES)
    elements = -(-int(steps) // batches)  # Of a turn.
    source = data.open_source(dataset, manual_dir=folder)
    shape = (elements * int(turns) + 1, batches, BATCH_SIZE)
    wanted = list(np.random.default_rng(1).integers(0, num_train, shape, dtype=np.int32))
    with data.prefetch(source, wanted, int(num_workers)) as splits:
        next(splits)  # It is ready with the first one.

        def read() -> None:
            for _ in range(elements):
                next(splits)

        obey({"read": read}, num_images=elements * batches * BATCH_SIZE)


if __name__ == "__main__":
    main(*sys.argv[1:])
