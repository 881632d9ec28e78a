"""Trains a network of `networks.py` in a process that `train_speed.py --table` measures:

    python -m benchmarks.network_training NETWORK CONTENDER

CONTENDER is a key of `CONTENDERS`. The process serves the commands `train`, a turn of `num_steps`
steps, and `profile`, which only `cnn_jax` has.
"""

import sys
import time
from importlib import import_module
from typing import Any

from benchmarks.command_server import serve_commands
from benchmarks.networks import NETWORKS, NUM_TRAIN, generate
from benchmarks.reference import Contender

# As in `contenders.py`: a process imports only the library that it measures.
CONTENDERS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "cnn_jax": ("jax_contenders", "CnnJax", ()),
    "PyTorch": ("torch_contenders", "InMemory", (False, "cpu")),
    "PyTorch, channels_last": ("torch_contenders", "InMemory", (True, "cpu")),
}
TURN_SECONDS = 0.75
_WARM_UP_STEPS = 10


def steps_per_turn(contender: Contender) -> int:
    """Warms up, and returns how many steps take about `TURN_SECONDS`: at most an epoch."""
    contender.train(1, _WARM_UP_STEPS)
    started = time.perf_counter()
    contender.train(1, _WARM_UP_STEPS)
    step_seconds = (time.perf_counter() - started) / _WARM_UP_STEPS
    return min(max(1, round(TURN_SECONDS / step_seconds)), NUM_TRAIN // contender.batch_size)


def main(network_name: str, contender_name: str) -> None:
    """Serves commands until standard input ends.

    Args:
      network_name: key of `NETWORKS`.
      contender_name: key of `CONTENDERS`.
    """
    network = NETWORKS[network_name]
    module_name, class_name, arguments = CONTENDERS[contender_name]
    contender_class = getattr(import_module(f"benchmarks.{module_name}"), class_name)
    contender = contender_class(*arguments, network.config, generate(network.image_shape))
    num_steps = steps_per_turn(contender)

    def train(turn: str) -> None:
        contender.train(int(turn), num_steps)

    def profile() -> dict[str, float]:
        step_profile = import_module("benchmarks.step_profile")
        return step_profile.profile(contender)

    serve_commands({"train": train, "profile": profile}, num_steps=num_steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
