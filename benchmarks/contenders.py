"""The programs that `train_speed.py` compares. Each runs in a process of its own:

    python -m benchmarks.contenders NAME DATASET [FOLDER]

It obeys the orders `train EPOCH STEPS`, `score train` and `score test` (see `orders.py`), and says
how many epochs its recipe has, once it can take the first step.

All but one train the reference network on batches of 128, shuffled anew each epoch, with plain SGD,
and fetch the loss every 50 steps; `mnist_fast` is this project with another recipe.
"""

import sys
from importlib import import_module
from typing import Any

from benchmarks.contender import Contender
from benchmarks.orders import obey
from cnn_jax import data

# Name -> module, class, and its arguments before the data. A module imports its own library alone.
CONTENDERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "cnn_jax": ("jax_contenders", "CnnJax", ("mnist",)),
    "cnn_jax, mnist_fast": ("jax_contenders", "CnnJax", ("mnist_fast",)),
    "plain Flax": ("jax_contenders", "PlainFlax", ()),
    "PyTorch": ("torch_contenders", "InMemory", (False,)),
    "PyTorch, channels_last": ("torch_contenders", "InMemory", (True,)),
    "PyTorch, as published": ("torch_contenders", "Tutorial", ()),
}


def main(name: str, dataset_name: str, folder: str = "") -> None:
    """Obeys the orders of standard input, until it ends."""
    module, kind, made_of = CONTENDERS[name]
    make = getattr(import_module(f"benchmarks.{module}"), kind)
    contender: Contender = make(*made_of, data.load(dataset_name, manual_dir=folder))

    def train(epoch: str, num_steps: str) -> None:
        contender.train(int(epoch), int(num_steps))

    obey({"train": train, "score": contender.score}, epochs=contender.epochs)


if __name__ == "__main__":
    main(*sys.argv[1:])
