"""Measures what saving costs the reference recipe: seconds, bytes and the share of an epoch.

    python benchmarks/checkpoint_cost.py --data=FOLDER

FOLDER holds the four original MNIST files; without --data they are downloaded. Epochs with and
without a checkpoint take turns, so that a machine that becomes slower becomes so for both. A run
takes about a minute on two cores. README.md in this folder has results.
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

from benchmarks import options
from benchmarks.jax_contenders import CnnJax
from cnn_jax import data
from cnn_jax.checkpoint import metadata
from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.engine import sharding

_RECIPE = flags.DEFINE_string("recipe", "mnist", "A recipe's name, such as mnist or digits.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs with and without.", lower_bound=1)
_SAVES = flags.DEFINE_integer("saves", 20, "Checkpoints saved one by one.", lower_bound=1)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(what: str, seconds: Sequence[float]) -> None:
    """Prints median, range and number, in milliseconds."""
    low, median, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    print(f"{what:<44} {median:8.1f} ms ({low:.1f} - {high:.1f}), n = {len(seconds)}")


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    del argv
    logging.set_verbosity(logging.FATAL)
    dataset = import_module(f"configs.{_RECIPE.value}").get_config().dataset
    dataset.manual_dir = options.manual_dir()
    run = CnnJax(_RECIPE.value, data.load(**dataset))
    run.train(1, 10**6)
    step = 0

    def save(checkpoints: Checkpoints) -> None:
        nonlocal step
        step += 1
        tree = metadata.state_tree(*sharding.to_host((run.state, run.no_metrics)))
        checkpoints.save(step, tree, {"config": {}})

    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder), read_only=False) as kept,
    ):
        blocked, written = [], []
        for _ in range(_SAVES.value):
            started = time.perf_counter()
            blocked.append(seconds_of(lambda: save(kept)))
            kept.wait()
            written.append(time.perf_counter() - started)
        files = [path for path in (kept.folder / str(step)).rglob("*") if path.is_file()]
        show("until training can go on", blocked)
        show("until the checkpoint is on the disk", written)
        print(f"{len(files)} files, {sum(path.stat().st_size for path in files):,} bytes")
        show("restored and verified", [seconds_of(lambda: kept.newest(print)) for _ in range(20)])
        epochs: dict[bool, list[float]] = {True: [], False: []}
        for epoch in range(2 * _EPOCHS.value):
            saves = epoch % 2 == 0
            started = time.perf_counter()
            if saves:
                save(kept)
            run.train(2, 10**6)
            run.score("train")
            epochs[saves].append(time.perf_counter() - started)
            kept.wait()  # Outside: an epoch without must not wait for one with.
    show("an epoch and its scoring without a checkpoint", epochs[False])
    show("the same while one is written", epochs[True])
    ratio = statistics.median(epochs[True]) / statistics.median(epochs[False])
    print(f"ratio of the medians: {ratio:.3f}")


if __name__ == "__main__":
    app.run(main)
