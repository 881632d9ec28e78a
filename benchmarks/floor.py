"""How long a training step of the reference network must take: its arithmetic at full speed.

    python benchmarks/floor.py

Counts the multiplications and additions that the textbook's convolutions need, and measures how
many of them a large matrix product does a second on this machine, which nothing else will exceed.
"""

import sys
import time
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cnn_jax.config import schema

SIZE = 2048
REPETITIONS = 20


def step_operations() -> int:
    """Floating-point operations of a step: forward, and twice as many backward.

    A layer's backward pass multiplies as often for the gradient of its weights as for that of its
    input, and the images need no gradient.
    """
    config = import_module("configs.mnist").get_config()
    layers = list(schema.walk_layers(config, schema.describe_data(config)))
    forward = sum(layer.multiply_adds for layer in layers)
    (first,) = (layer.multiply_adds for layer in layers if layer.name == "conv_1")
    return int(2 * config.batch_size * (3 * forward - first))


def operations_per_second() -> float:
    """Of a product of two square matrices, float32, the best of some."""
    matrix = jax.random.normal(jax.random.key(0), (SIZE, SIZE))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds)


def main() -> None:
    """Prints the floor."""
    operations, speed = step_operations(), operations_per_second()
    print(
        f"{operations / 1e6:.0f} MFLOP a step at {speed / 1e9:.0f} GFLOP/s: "
        f"{1e3 * operations / speed:.2f} ms a step, {469 * operations / speed:.2f} s an epoch"
    )


if __name__ == "__main__":
    main()
