"""Trains many models, on many devices or from a stream, in a process that `scaling.py` measures:

    python -m benchmarks.scaling_training ROW DATASET STEPS EPOCHS [FOLDER]

It uses the reference config with epochs of STEPS steps. The process serves the commands
`train EPOCH`, `evaluate` (on the training examples, after each epoch, since a stream delivers them
in that order) and `peak_megabytes`.
"""

import contextlib
import functools
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jax

from benchmarks import command_server
from benchmarks.bare_trainer import BareTrainer
from benchmarks.collectives import count_collectives
from benchmarks.reference import BATCH_SIZE
from benchmarks.scaling_tables import STREAM, Row
from cnn_jax import data
from cnn_jax.config import schema
from cnn_jax.engine import compilation_cache, sharding
from cnn_jax.engine.compile import compile_programs
from cnn_jax.training.chunking import ChunkTimer
from cnn_jax.training.device_feed import DeviceFeed, load_to_devices
from cnn_jax.training.stream_feed import StreamFeed, chunk_sizes
from configs import mnist


def peak_megabytes() -> float:
    """Returns the peak of the devices' own memory, or the host's where they have none."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    return sum(peaks) / 2**20 if peaks else command_server.peak_megabytes()


def main(row_name: str, dataset: str, steps: str, epochs: str, folder: str = "") -> None:
    """Serves commands until standard input ends.

    Args:
      row_name: as `scaling_tables.Row.parse` takes it.
      dataset: `mnist` or `digits`.
      steps: of each epoch.
      epochs: number of `train` commands at most.
      folder: with the original files; empty to download them.
    """
    row = Row.parse(row_name)
    compilation_cache.enable()
    config = mnist.get_config()
    config.num_models = row.num_models
    config.num_epochs = int(epochs)
    config.dataset.update(name=dataset, manual_dir=folder, feed=row.feed)
    num_train = min(int(steps) * BATCH_SIZE, schema.describe_data(config).num_train)
    config.dataset.train_split = f"train[:{num_train}]"
    info = schema.check(config)
    mesh = sharding.make_mesh(row.num_models)
    is_stream = row.feed == STREAM
    chunk = chunk_sizes(config, info, mesh) if is_stream else None
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as pool:  # XLA compiles while the data are read.
            compiled = pool.submit(compile_programs, config, info, mesh, chunk, time.perf_counter)
            examples = (data.open_source if is_stream else data.load)(**config.dataset)
        programs = compiled.result()
        feed: DeviceFeed | StreamFeed
        if isinstance(examples, data.Source):
            feed = StreamFeed(config, info, mesh, programs, examples, 0)
            stack.callback(feed.close)
        else:
            make_chunk_timer = functools.partial(ChunkTimer, time.perf_counter)
            arrays = load_to_devices(examples, mesh)
            feed = DeviceFeed(config, info, mesh, programs, arrays, make_chunk_timer)
        trainer = BareTrainer(config, info, mesh, programs, feed)

        def train(epoch: str) -> None:
            trainer.train(int(epoch), trainer.num_steps)

        command_server.serve_commands(
            {
                "train": train,
                "evaluate": lambda: trainer.evaluate("train"),
                "peak_megabytes": peak_megabytes,
            },
            num_steps=trainer.num_steps,
            num_train=num_train,
            data_devices=mesh.shape[sharding.DATA],
            collectives=count_collectives(programs.train_steps.as_text() or ""),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
