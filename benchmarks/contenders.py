"""The programs that `train_speed.py` compares. Each runs in a process of its own:

    python -m benchmarks.contenders NAME DATASET [FOLDER]

It reads orders from standard input, one a line, and answers each with one line of JSON:
`train EPOCH STEPS`, `score train`, `score test`. The line of JSON that it writes by itself, once it
can take the first step, says how many epochs its recipe has.

All but one train the reference network on batches of 128, shuffled anew each epoch, with plain SGD,
and fetch the loss every 50 steps; `mnist_fast` is this project with another recipe.
"""

import json
import resource
import sys
import time
from importlib import import_module
from typing import Any

from benchmarks.contender import Contender
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


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def main(name: str, dataset_name: str, folder: str = "") -> None:
    """Obeys the orders of standard input, until it ends."""
    module, kind, made_of = CONTENDERS[name]
    make = getattr(import_module(f"benchmarks.{module}"), kind)
    contender: Contender = make(*made_of, data.load(dataset_name, manual_dir=folder))
    _say(epochs=contender.epochs)
    for line in sys.stdin:
        verb, *arguments = line.split()
        started = time.perf_counter()
        if verb == "train":
            epoch, num_steps = map(int, arguments)
            contender.train(epoch, num_steps)
            value = None
        else:
            value = contender.score(arguments[0])
        seconds = time.perf_counter() - started
        peak_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _say(seconds=seconds, value=value, peak_megabytes=peak_kilobytes / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
