"""The programs that `train_speed.py` and `gpu.py` compare. Each runs in its own process:

    python -m benchmarks.contenders NAME DATASET [FOLDER]

The process serves the commands `train EPOCH STEPS`, with steps of 128 images, `evaluate train` and
`evaluate test` (see `command_server.py`). When it is ready for its first step, it reports its
number of epochs.

All contenders but `mnist_fast` train the reference model in batches of 128, shuffled anew in each
epoch, with plain SGD, and fetch the loss every 50 steps. `mnist_fast` is this project with another
config.
"""

import sys
from importlib import import_module
from typing import Any

from benchmarks.command_server import serve_commands
from benchmarks.reference import BATCH_SIZE, Contender
from cnn_jax import data
from configs import mnist, mnist_fast

# Name -> module, class and its arguments before the dataset. Modules are imported by name, so that
# a process imports only the library that it measures.
CONTENDERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "cnn_jax": ("jax_contenders", "CnnJax", (mnist.get_config(),)),
    "cnn_jax, mnist_fast": ("jax_contenders", "CnnJax", (mnist_fast.get_config(),)),
    "plain Flax": ("jax_contenders", "PlainFlax", ()),
    "PyTorch": ("torch_contenders", "InMemory", (False, "cpu", mnist.get_config())),
    "PyTorch, channels_last": ("torch_contenders", "InMemory", (True, "cpu", mnist.get_config())),
    "PyTorch, as published": ("torch_contenders", "Tutorial", ()),
}

PYTORCH_ON_GPU = "PyTorch, GPU"  # The contender of `gpu.py`.
_GPU_CONTENDERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    PYTORCH_ON_GPU: ("torch_contenders", "InMemory", (False, "cuda", mnist.get_config())),
}


def main(name: str, dataset_name: str, folder: str = "") -> None:
    """Serves commands until standard input ends.

    Args:
      name: of the contender, a key of `CONTENDERS`, or `PYTORCH_ON_GPU`.
      dataset_name: `mnist` or `digits`.
      folder: with the original files; empty to download them.
    """
    module_name, class_name, arguments = (CONTENDERS | _GPU_CONTENDERS)[name]
    contender_class = getattr(import_module(f"benchmarks.{module_name}"), class_name)
    contender: Contender = contender_class(*arguments, data.load(dataset_name, manual_dir=folder))

    def train(epoch: str, num_steps: str) -> None:
        # Smaller batches need more steps for the same number of examples.
        contender.train(int(epoch), int(num_steps) * BATCH_SIZE // contender.batch_size)

    serve_commands({"train": train, "evaluate": contender.evaluate}, epochs=contender.epochs)


if __name__ == "__main__":
    main(*sys.argv[1:])
