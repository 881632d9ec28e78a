"""Computes lower bounds for the time of a training step: its arithmetic, and its bytes.

    python benchmarks/floor.py

It counts the multiplications and additions of the textbook's convolutions, and measures how many of
them per second a large matrix product reaches on this machine. No other operation is faster. It
also counts the bytes that a step cannot avoid to read and to write, and measures the speed of a
large copy.
"""

import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cnn_jax import data
from cnn_jax.config import schema
from configs import mnist

MATRIX_SIZE = 2048
COPIED_VALUES = 2**25  # Float32; 128 MiB fit into no cache.
REPETITIONS = 20


def step_operations(config: ConfigDict, info: data.Info) -> int:
    """Returns the floating-point operations of a training step.

    The backward pass of a layer takes as many for the gradient of its weights as for the gradient
    of its input, each as many as the forward pass. The images need no gradient.
    """
    layers = list(schema.walk_layers(config, info))
    forward = sum(layer.multiply_adds for layer in layers)
    (first,) = (layer.multiply_adds for layer in layers if layer.name == "conv_1")
    return int(2 * config.batch_size * (3 * forward - first))


def step_bytes(config: ConfigDict, info: data.Info) -> int:
    """Returns the bytes that a training step reads and writes if each stage is one operation.

    A stage is a convolution with its activation and pooling; nothing within it is counted: no
    windows, no values before pooling. The bytes are these:

    - The pixels of the batch, uint8, are read twice: by the forward pass, and for the gradient of
      the first kernel.
    - The output of each stage, float32, is written and read by the forward pass, and read for the
      gradient of the next layer's weights. Its gradient is written and read.
    - Each parameter, float32, is read by both passes; its gradient is written and read; the new
      value is written.

    A processor whose caches hold some of these values needs less of its memory.
    """
    layers = list(schema.walk_layers(config, info))
    inputs = [math.prod(a.output_shape) for a, b in itertools.pairwise(layers) if b.kernel_shape]
    num_parameters = sum(layer.num_parameters for layer in layers)
    return int(config.batch_size * (2 * inputs[0] + 20 * sum(inputs[1:])) + 20 * num_parameters)


def operations_per_second() -> float:
    """Measures the product of two square float32 matrices; returns the best repetition."""
    matrix = jax.random.normal(jax.random.key(0), (MATRIX_SIZE, MATRIX_SIZE))
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
    seconds = _best_seconds(lambda: product(matrix, matrix).block_until_ready())
    return 2 * MATRIX_SIZE**3 / seconds


def bytes_per_second() -> float:
    """Measures a copy by all cores at once; returns the best repetition.

    Each byte counts twice: it is read and written.
    """
    num_threads = os.cpu_count() or 1
    source, target = (np.full(COPIED_VALUES, value, np.float32) for value in (1, 2))
    parts = [np.array_split(array, num_threads) for array in (target, source)]
    with ThreadPoolExecutor(num_threads) as threads:
        seconds = _best_seconds(lambda: list(threads.map(np.copyto, *parts)))
    return 2 * source.nbytes / seconds


def _best_seconds(function: Callable[[], object]) -> float:
    function()  # Warm-up: the product compiles.
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    """Prints the lower bounds for a step of `configs/mnist.py` and for an epoch of 469 steps."""
    config = mnist.get_config()
    info = schema.describe_data(config)
    for count, unit, speed in (
        (step_operations(config, info), "FLOP", operations_per_second()),
        (step_bytes(config, info), "B", bytes_per_second()),
    ):
        print(
            f"{count / 1e6:.1f} M{unit} per step at {speed / 1e9:.0f} G{unit}/s: "
            f"{1e3 * count / speed:.2f} ms per step, {469 * count / speed:.2f} s per epoch"
        )


if __name__ == "__main__":
    main()
