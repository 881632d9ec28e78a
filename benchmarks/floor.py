"""Computes a lower bound for the time of a training step: its arithmetic at full speed.

    python benchmarks/floor.py

It counts the multiplications and additions of the textbook's convolutions, and measures how many of
them per second a large matrix product reaches on this machine. No other operation is faster.
"""

import sys
import time
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cnn_jax.config import schema

MATRIX_SIZE = 2048
REPETITIONS = 20


def step_operations() -> int:
    """Returns the floating-point operations of a training step of `configs/mnist.py`.

    The backward pass of a layer takes as many for the gradient of its weights as for the gradient
    of its input, each as many as the forward pass. The images need no gradient.
    """
    config = import_module("configs.mnist").get_config()
    layers = list(schema.walk_layers(config, schema.describe_data(config)))
    forward = sum(layer.multiply_adds for layer in layers)
    (first,) = (layer.multiply_adds for layer in layers if layer.name == "conv_1")
    return int(2 * config.batch_size * (3 * forward - first))


def operations_per_second() -> float:
    """Measures the product of two square float32 matrices; returns the best repetition."""
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    product(matrix, matrix).block_until_ready()  # Warm-up: this call compiles.
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * MATRIX_SIZE**3 / min(seconds)


def main() -> None:
    """Prints the lower bound for a step and for an epoch of 469 steps."""
    operations, speed = step_operations(), operations_per_second()
    print(
        f"{operations / 1e6:.0f} MFLOP per step at {speed / 1e9:.0f} GFLOP/s: "
        f"{1e3 * operations / speed:.2f} ms per step, {469 * operations / speed:.2f} s per epoch"
    )


if __name__ == "__main__":
    main()
