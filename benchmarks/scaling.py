"""Measures the training of many models at once, on many devices and from a stream, in one run.

    python benchmarks/scaling.py --data=FOLDER [--rounds=10] [--rows=1x1,8x1,1x64,1x1xstream]

FOLDER holds the four original MNIST files; without --data they are downloaded. A row DEVICESxMODELS
trains MODELS models of the reference config at once on DEVICES devices, in its own process. The
devices are simulated: JAX splits the CPU into that many, which share the same cores, so more
devices are no more hardware. Where JAX finds GPUs, there are also rows that use all of them. The
rows take turns while the others are stopped; a turn is an epoch of `--steps` steps and the
evaluation of its examples. A run takes about five minutes on two cores.

The columns of the table:

- start: seconds until the process can take its first step, with imports, data and all compilation;
- training: milliseconds per step and model, so that a step of all models takes `ms * models`; n is
  the number of turns, and ratio compares the medians with that of the first row;
- cpu: the same on the CPU clock of the process, summed over its threads. Other work on the machine
  changes it less;
- train, eval: throughput of training and evaluation, in images per second; an image counts once for
  each model;
- models/hour: full reference runs per hour, one after the other in processes like this one. A run
  has ten epochs of 469 steps, an evaluation of 60,000 images after each, and one of 10,000 images
  at the end. The number is extrapolated from the start, and from training and evaluation of the
  short epochs;
- memory: the largest resident set of the process, without its worker processes; on GPUs, the peak
  of their own memory;
- per model: the additional memory of each model after the first one. The epoch permutations take 4
  bytes per model for each of the 6,400 examples; for the 60,000 of MNIST they take 0.2 MB more.

Below the table there are two more parts: what the devices send each other in a step, from the
compiled program, and the throughput of a stream without training.
"""

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, scaling_tables, shared_flags
from benchmarks.scaling_tables import Row
from benchmarks.turns import MeasuredProcess, run_in_turns

_DATASET = shared_flags.define_dataset()
_ROWS = flags.DEFINE_list(
    "rows",
    [],
    "Rows: DEVICESxMODELS or DEVICESxMODELSxstream; gpu for DEVICES means all GPUs. Empty: the "
    "default rows.",
)
_WORKERS = flags.DEFINE_list(
    "workers", ["0", "1", "2"], "Numbers of worker processes to measure a stream with."
)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Turns of each row.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps per epoch, of 128 images.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "scaling.json", "File that the results are written to.")


class TrainingProcess(MeasuredProcess):
    """Measures training and evaluation of one row."""

    def __init__(self, row: Row) -> None:
        super().__init__("benchmarks.scaling_training", row.name, *_arguments(), **row.environment)
        lists = ("train_seconds", "train_cpu_seconds", "eval_seconds")
        self.result |= {**self.ready_report, **{name: [] for name in lists}}

    def take_turn(self, turn: int) -> None:
        """Trains for one epoch and evaluates its examples."""
        trained = self._run_command(f"train {turn}")
        self.result["train_seconds"].append(trained["seconds"])
        self.result["train_cpu_seconds"].append(trained["cpu_seconds"])
        self.result["eval_seconds"].append(self._run_command("evaluate")["seconds"])
        self.result["peak_megabytes"] = self._run_command("peak_megabytes")["value"]


class ReadingProcess(MeasuredProcess):
    """Measures the throughput of a stream without training."""

    def __init__(self, num_workers: str) -> None:
        super().__init__("benchmarks.scaling_reading", num_workers, *_arguments())
        self.result |= {**self.ready_report, "read_seconds": []}

    def take_turn(self, turn: int) -> None:
        """Reads as many images as an epoch trains on."""
        del turn
        self.result["read_seconds"].append(self._run_command("read")["seconds"])


def _arguments() -> tuple[str, ...]:
    """Returns the command-line arguments that both kinds of process have after the first one."""
    steps, rounds = str(_STEPS.value), str(_ROUNDS.value)
    return _DATASET.value, steps, rounds, shared_flags.manual_dir()


def main(argv: Sequence[str]) -> None:
    """Measures, prints the tables and writes the JSON file."""
    del argv
    try:
        rows = [Row.parse(text) for text in _ROWS.value]
    except ValueError as error:
        raise app.UsageError(f"--rows={error}") from error
    try:
        num_workers = {f"stream_workers={int(text)}": int(text) for text in _WORKERS.value}
    except ValueError as error:
        given = ",".join(_WORKERS.value)
        raise app.UsageError(
            f"--workers={given} is invalid: it must be integers >= 0, separated by commas. Use for "
            "example 0,1,2."
        ) from error
    # There are no rows for TPUs, since a TPU serves only one process at a time.
    rows = rows or scaling_tables.default_rows(bool(machine.gpu_names()))
    machine_info = machine.describe_machine()
    print(machine.format_machine(machine_info))
    starters: dict[str, Callable[[], MeasuredProcess]] = {}
    starters |= {row.name: functools.partial(TrainingProcess, row) for row in rows}
    starters |= {name: functools.partial(ReadingProcess, str(n)) for name, n in num_workers.items()}
    results = run_in_turns(starters, _ROUNDS.value)
    training = {row: results[row.name] for row in rows}
    reading = {n: results[name] for name, n in num_workers.items()}
    lines = [*scaling_tables.training_table(training), *scaling_tables.collective_lines(training)]
    print("\n".join(lines + (scaling_tables.reading_table(reading) if reading else [])))
    text = json.dumps({**machine_info, "results": results}, indent=2) + "\n"
    Path(_JSON.value).write_text(text, "utf-8")
    print(f"Results written to {_JSON.value}")


if __name__ == "__main__":
    app.run(main)
