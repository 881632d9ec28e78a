"""Reads a stream without training on it, in a process that `scaling.py` measures:

    python -m benchmarks.scaling_reading WORKERS DATASET STEPS TURNS [FOLDER]

The process serves the command `read`: it reads as many images, drawn at random, as STEPS steps
train on.
"""

import sys

import numpy as np

from benchmarks.command_server import serve_commands
from benchmarks.reference import BATCH_SIZE
from cnn_jax import data

# Batches per element of the stream: few enough for a turn to have several elements, so that the
# workers can share them.
BATCHES_PER_ELEMENT = 10


def main(num_workers: str, dataset: str, steps: str, turns: str, folder: str = "") -> None:
    """Serves commands until standard input ends.

    Args:
      num_workers: number of worker processes; with 0 this process reads.
      dataset: `mnist` or `digits`.
      steps: of each turn.
      turns: number of `read` commands at most.
      folder: with the original files; empty to download them.
    """
    num_train = data.describe(dataset).num_train
    num_batches = min(int(steps), BATCHES_PER_ELEMENT)
    elements_per_turn = -(-int(steps) // num_batches)
    source = data.open_source(dataset, manual_dir=folder)
    shape = (elements_per_turn * int(turns) + 1, num_batches, BATCH_SIZE)
    indices = list(np.random.default_rng(1).integers(0, num_train, shape, dtype=np.int32))
    with data.prefetch(source, indices, int(num_workers)) as elements:
        next(elements)  # Warm-up: after the first element the stream is ready.

        def read() -> None:
            for _ in range(elements_per_turn):
                next(elements)

        serve_commands({"read": read}, num_images=elements_per_turn * num_batches * BATCH_SIZE)


if __name__ == "__main__":
    main(*sys.argv[1:])
