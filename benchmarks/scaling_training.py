"""Trains many networks, on many devices or with a stream, for `scaling.py`:

    python -m benchmarks.scaling_training ROW DATASET STEPS EPOCHS [FOLDER]

The reference recipe with epochs of so many steps. It obeys the orders `train EPOCH`, `score` (the
training examples, after each epoch, since a stream comes in that order) and `megabytes`.
"""

import contextlib
import functools
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax

from benchmarks.all_reduces import of_a_step
from benchmarks.contender import BATCH_SIZE
from benchmarks.orders import obey, peak_megabytes
from benchmarks.scaling_row import STREAM, Row
from benchmarks.training import Training
from cnn_jax import data
from cnn_jax.config import schema
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import compile_programs
from cnn_jax.training.chunking import ChunkTimer
from cnn_jax.training.device_feed import DeviceFeed, load_to_devices
from cnn_jax.training.stream_feed import StreamFeed, chunk_sizes
from configs import mnist


def megabytes() -> float:
    """What is used at most: of the devices' own memory, or of the host's where they have none."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [found["peak_bytes_in_use"] for found in stats if "peak_bytes_in_use" in found]
    return sum(peaks) / 2**20 if peaks else peak_megabytes()


def main(row_name: str, dataset: str, steps: str, epochs: str, folder: str = "") -> None:
    """Obeys the orders of standard input, until it ends."""
    row = Row.parse(row_name)
    config = mnist.get_config()
    config.num_models = row.num_networks
    config.num_epochs = int(epochs)
    config.dataset.update(name=dataset, manual_dir=folder, feed=row.feed)
    num_train = min(int(steps) * BATCH_SIZE, schema.describe_data(config).num_train)
    config.dataset.train_split = f"train[:{num_train}]"
    info = schema.check(config)
    mesh = sharding.make_mesh(row.num_networks)
    streams = row.feed == STREAM
    chunk = chunk_sizes(config, info, mesh) if streams else None
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as pool:  # XLA compiles while the data are read.
            compiled = pool.submit(compile_programs, config, info, mesh, chunk, time.perf_counter)
            examples = (data.open_source if streams else data.load)(**config.dataset)
        programs = compiled.result()
        feed: DeviceFeed | StreamFeed
        if isinstance(examples, data.Source):
            feed = StreamFeed(config, info, mesh, programs, examples, 0)
            stack.callback(feed.close)
        else:
            pace = functools.partial(ChunkTimer, time.perf_counter)
            arrays = load_to_devices(examples, mesh)
            feed = DeviceFeed(config, info, mesh, programs, arrays, pace)
        training = Training(config, info, mesh, programs, feed)
        sums = of_a_step(programs.train_steps.as_text() or "")

        def train(epoch: str) -> None:
            training.train(int(epoch), training.num_steps)

        obey(
            {
                "train": train,
                "score": lambda: training.score("train"),
                "megabytes": megabytes,
            },
            num_steps=training.num_steps,
            num_train=num_train,
            data_devices=mesh.shape[sharding.DATA],
            all_reduces=sums.number,
            all_reduce_bytes=sums.num_bytes,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
