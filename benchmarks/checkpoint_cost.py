"""Measures the cost of checkpoints: seconds, bytes and the share of an epoch.

    python benchmarks/checkpoint_cost.py --data=FOLDER [--config=mnist]

FOLDER holds the four original MNIST files; without --data they are downloaded. Epochs with and
without a checkpoint alternate, so that other work on the machine slows both down. A run takes about
a minute on two cores. README.md in this folder has results.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from absl import app, flags, logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import shared_flags
from benchmarks.jax_contenders import CnnJax
from cnn_jax import data
from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.checkpoint.restore import newest_checkpoint
from cnn_jax.checkpoint.state import state_tree
from cnn_jax.engine import sharding
from cnn_jax.wording import pluralize

_CONFIG = flags.DEFINE_string("config", "mnist", "Name of a file in configs/: mnist or digits.")
_EPOCHS = flags.DEFINE_integer(
    "epochs", 20, "Epochs with a checkpoint, and epochs without.", lower_bound=1
)
_SAVES = flags.DEFINE_integer(
    "saves", 20, "Checkpoints saved while nothing is trained.", lower_bound=1
)

_ALL_STEPS = 10**6  # More than an epoch has.
_RESTORES = 20


def measure_seconds(function: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def print_statistics(label: str, seconds: Sequence[float]) -> None:
    """Prints median, minimum, maximum and number of measurements, in milliseconds."""
    low, median, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    print(f"{label:<44} {median:8.1f} ms ({low:.1f} - {high:.1f}), n = {len(seconds)}")


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    del argv
    logging.set_verbosity(logging.FATAL)
    config = import_module(f"configs.{_CONFIG.value}").get_config()
    config.dataset.manual_dir = shared_flags.manual_dir()
    trainer = CnnJax(config, data.load(**config.dataset))
    trainer.train(1, _ALL_STEPS)  # Warm-up.
    step = 0

    def save(checkpoints: Checkpoints) -> None:
        nonlocal step
        step += 1
        tree = state_tree(*sharding.to_host((trainer.state, trainer.empty_metrics)))
        checkpoints.save(step, tree, {"config": {}})

    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder)) as checkpoints,
    ):
        blocked, written = [], []
        for _ in range(_SAVES.value):
            started = time.perf_counter()
            blocked.append(measure_seconds(lambda: save(checkpoints)))
            checkpoints.wait()
            written.append(time.perf_counter() - started)
        files = [path for path in (checkpoints.folder / str(step)).rglob("*") if path.is_file()]
        print_statistics("until training resumes", blocked)
        print_statistics("until the checkpoint is on disk", written)
        num_bytes = sum(path.stat().st_size for path in files)
        print(f"{pluralize(len(files), 'file')}, {num_bytes:,} bytes")
        restored = [
            measure_seconds(lambda: newest_checkpoint(checkpoints.folder, print))
            for _ in range(_RESTORES)
        ]
        print_statistics("restored and verified", restored)
        epoch_seconds: dict[bool, list[float]] = {True: [], False: []}
        for epoch in range(2 * _EPOCHS.value):
            saves = epoch % 2 == 0
            started = time.perf_counter()
            if saves:
                save(checkpoints)
            trainer.train(2, _ALL_STEPS)
            trainer.evaluate("train")
            epoch_seconds[saves].append(time.perf_counter() - started)
            checkpoints.wait()  # Not timed, so that no epoch waits for an earlier checkpoint.
    print_statistics("epoch without a checkpoint", epoch_seconds[False])
    print_statistics("epoch while a checkpoint is written", epoch_seconds[True])
    ratio = statistics.median(epoch_seconds[True]) / statistics.median(epoch_seconds[False])
    print(f"ratio of the medians: {ratio:.3f}")


if __name__ == "__main__":
    app.run(main)
