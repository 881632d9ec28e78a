"""Measures many networks at once, many devices and the stream, in one run.

    python benchmarks/scaling.py --data=FOLDER [--rounds=10] [--rows=1x1,8x1,1x64,1x1xstream]

FOLDER holds the four original MNIST files; without --data they are downloaded. A row is the
reference recipe on DEVICES for NETWORKS at once, in a process of its own: the CPU's cores look
like so many devices, and share the work as these would, but are not more for it. Where JAX finds
GPUs there are rows with all of them. The rows take turns, an epoch of `--steps` steps and its
scoring each, while the others are stopped. A run takes about five minutes on two cores.

- start: until the first step can be taken, with imports, data and all compilation;
- training: of one step of one network, so `ms * networks` is what a step of all takes; cpu: the
  same on the clock of the process, all of its threads together, which other work on the machine
  changes less: that takes more from long turns than from short ones;
- images, scored: a second, trained on and scored; an image counts once for each network;
- models an hour: of whole reference runs, one after the other in processes like this one, of ten
  epochs of 469 steps, 60,000 images scored after each and 10,000 at the end: extrapolated from
  start, training and scoring as measured on the short epochs;
- memory: the largest resident set of the process, without those that read for it; on GPUs, of
  their own memory; a network: what each of several takes more than one alone. Here the order of an
  epoch has 4 bytes a network for each of 6,400 examples, of MNIST's 60,000 it is 0.2 MB more.

Then come the sums that devices make together in a step, as the compiled program says, and how fast
a stream is if nobody trains on it.
"""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, options, scaling_row
from benchmarks.scaling_row import Row
from benchmarks.turns import Process, take_turns

_DATASET = options.define_dataset()
_ROWS = flags.DEFINE_list(
    "rows", [], "DEVICESxNETWORKS, or DEVICESxNETWORKSxstream; gpu stands for all. Empty: all rows."
)
_READERS = flags.DEFINE_list("readers", ["0", "1", "2"], "Reading processes of streams.")
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Turns of each row.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of 128 images an epoch.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "scaling.json", "Where the results go.")


class Training(Process):
    """A row at work."""

    def __init__(self, row: Row) -> None:
        super().__init__("benchmarks.scaling_training", row.name, *_arguments(), **row.environment)
        lists = ("train_seconds", "train_cpu_seconds", "score_seconds")
        self.result |= {**self.facts, **{name: [] for name in lists}}

    def turn(self, number: int) -> None:
        """Trains for an epoch and scores its examples."""
        trained = self._ask(f"train {number}")
        self.result["train_seconds"].append(trained["seconds"])
        self.result["train_cpu_seconds"].append(trained["cpu_seconds"])
        self.result["score_seconds"].append(self._ask("score")["seconds"])
        self.result["megabytes"] = self._ask("megabytes")["value"]


class Reading(Process):
    """A stream at work."""

    def __init__(self, num_workers: str) -> None:
        super().__init__("benchmarks.scaling_reading", num_workers, *_arguments())
        self.result |= {**self.facts, "read_seconds": []}

    def turn(self, number: int) -> None:
        """Reads as many images as an epoch has."""
        del number
        self.result["read_seconds"].append(self._ask("read")["seconds"])


def _arguments() -> tuple[str, ...]:
    """Of the command line of either, after the first one."""
    steps, rounds = str(_STEPS.value), str(_ROUNDS.value)
    return _DATASET.value, steps, rounds, options.manual_dir()


def has_gpus() -> bool:
    """Whether JAX finds any. A TPU would serve one process only: it has no rows."""
    # In this process JAX would take memory of them.
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return found.stdout.strip() == scaling_row.ACCELERATORS


def main(argv: Sequence[str]) -> None:
    """Measures, prints the tables and writes the file."""
    del argv
    try:
        rows = [Row.parse(text) for text in _ROWS.value]
        readers = {f"{int(text)} reading": int(text) for text in _READERS.value}
    except ValueError as error:
        raise app.UsageError(f"--rows or --readers: {error}") from error
    rows = rows or scaling_row.default_rows(has_gpus())
    where = machine.machine()
    print(machine.in_words(where))
    starts: dict[str, Callable[[], Process]] = {}
    starts |= {row.name: functools.partial(Training, row) for row in rows}
    starts |= {name: functools.partial(Reading, str(n)) for name, n in readers.items()}
    results = take_turns(starts, _ROUNDS.value)
    trained = {row: results[row.name] for row in rows}
    read = {num_workers: results[name] for name, num_workers in readers.items()}
    lines = [*scaling_row.table(trained), *scaling_row.all_reduces(trained)]
    print("\n".join(lines + (scaling_row.reading_table(read) if read else [])))
    Path(_JSON.value).write_text(json.dumps({**where, "results": results}, indent=2) + "\n")
    print(f"written to {_JSON.value}")


if __name__ == "__main__":
    app.run(main)
