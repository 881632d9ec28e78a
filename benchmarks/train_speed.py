"""Measures the training speed of this project and of its peers, in one run.

    python benchmarks/train_speed.py --data=FOLDER [--json=train_speed.json]
    python benchmarks/train_speed.py --table [--networks=32-64,5x5]
    python benchmarks/train_speed.py --cores [--networks=32-64,5x5]

The first command trains the reference model.

FOLDER holds the four original MNIST files; without --data they are downloaded. PyTorch comes with
the extra `bench`. `contenders.py` lists the contenders. They take turns of one epoch while the
others wait, so that other work on the machine slows all of them down. A run takes about ten minutes
on two cores. With --table, the networks of `networks.py` train for some steps against PyTorch, on
generated data (`network_table.py`); with --cores they train on one core and on all of them
(`core_table.py`). README.md in this folder describes the method and has results.
"""

import functools
import json
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from absl import app, flags, logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, shared_flags
from benchmarks.contenders import CONTENDERS
from benchmarks.networks import NETWORKS
from benchmarks.reference import EPOCHS
from benchmarks.turns import MeasuredProcess, run_in_turns

_DATASET = shared_flags.define_dataset()
_EPOCHS = flags.DEFINE_integer("epochs", EPOCHS, "Epochs of each contender.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 469, "Steps per epoch, of 128 images.", lower_bound=1)
_TABLE = flags.DEFINE_bool("table", False, "Trains many networks instead, on generated data.")
_CORES = flags.DEFINE_bool("cores", False, "Trains them on one core and on all cores instead.")
_NETWORKS = flags.DEFINE_list("networks", list(NETWORKS), "Networks of --table and --cores.")
flags.register_validator(
    _NETWORKS,
    lambda names: set(names) <= set(NETWORKS),
    f"each must be one of {', '.join(NETWORKS)}",
)
_TURNS = flags.DEFINE_integer("turns", 7, "Turns of --table and --cores.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "train_speed.json", "File that the results are written to.")

TARGET_ACCURACY = 0.977  # The reference's test accuracy after ten epochs.


class ContenderProcess(MeasuredProcess):
    """Measures one contender."""

    def __init__(self, name: str) -> None:
        super().__init__("benchmarks.contenders", name, _DATASET.value, shared_flags.manual_dir())
        keys = ("train_seconds", "eval_train_seconds", "eval_test_seconds", "test_accuracy")
        self.result |= {key: [] for key in keys}

    def take_turn(self, turn: int) -> None:
        """Trains for one epoch and evaluates both splits, unless all epochs are done."""
        if turn > self.ready_report["epochs"]:
            return
        result = self.result
        trained = self._run_command(f"train {turn} {_STEPS.value}")
        result["train_seconds"].append(trained["seconds"])
        result["eval_train_seconds"].append(self._run_command("evaluate train")["seconds"])
        tested = self._run_command("evaluate test")
        result["eval_test_seconds"].append(tested["seconds"])
        result["test_accuracy"].append(tested["value"])
        result["peak_megabytes"] = tested["peak_megabytes"]


def measure() -> dict[str, dict[str, Any]]:
    """Runs all contenders in turns; returns the results by name."""
    has_torch = find_spec("torch") is not None
    names = [name for name in CONTENDERS if has_torch or "PyTorch" not in name]
    if not has_torch:
        print("PyTorch is not installed: its rows are left out. Run pip install -e '.[bench]'.")
    starters = {name: functools.partial(ContenderProcess, name) for name in names}
    return run_in_turns(starters, _EPOCHS.value)


def seconds_to_target_accuracy(result: dict[str, Any]) -> float | None:
    """Returns the time of the start and of training until `TARGET_ACCURACY` is reached.

    Returns:
      Seconds until the end of the first epoch with at least that test accuracy; None if no epoch
      reaches it. The time of evaluations does not count.
    """
    for epoch, accuracy in enumerate(result["test_accuracy"], start=1):
        if accuracy >= TARGET_ACCURACY:
            return float(result["start_seconds"] + sum(result["train_seconds"][:epoch]))
    return None


def full_run_seconds(result: dict[str, Any]) -> float:
    """Returns the time of a full run, which does what the reference program does.

    That is: the start, and in each epoch the training and an evaluation of the training set; at the
    end, one evaluation of the test set.
    """
    return float(
        result["start_seconds"]
        + sum(result["train_seconds"])
        + sum(result["eval_train_seconds"])
        + result["eval_test_seconds"][-1]
    )


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Formats the results as lines; ratios are to this project with `configs/mnist.py`."""
    ours = results["cnn_jax"]
    our_epoch = statistics.median(ours["train_seconds"])
    lines = [
        "                        start   training, s per epoch  ratio  eval, s      "
        "full run        to 97.7 %  memory",
        "                            s   median (min - max)  n         train   test  "
        "     s  ratio       s        MB",
    ]
    for name, result in results.items():
        train = result["train_seconds"]
        median = statistics.median(train)
        to_target = seconds_to_target_accuracy(result)
        full_run = full_run_seconds(result)
        lines.append(
            f"{name:<22} {result['start_seconds']:6.1f}  {median:6.2f} ({min(train):5.2f} -"
            f"{max(train):6.2f}) {len(train):2d} {median / our_epoch:6.2f}"
            f" {statistics.median(result['eval_train_seconds']):7.2f}"
            f" {statistics.median(result['eval_test_seconds']):6.3f}"
            f" {full_run:6.1f} {full_run / full_run_seconds(ours):6.2f}"
            f" {'-' if to_target is None else f'{to_target:.1f}':>8}"
            f" {result['peak_megabytes']:9.0f}"
        )
    return lines


def measure_networks() -> dict[str, Any]:
    """Measures the networks of --networks and prints their tables.

    Returns:
      The results of `network_table.measure` and of `network_table.profile_slowest`.
    """
    if find_spec("torch") is None:
        message = "PyTorch is not installed, and --table needs it. Run pip install -e '.[bench]'."
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    logging.set_verbosity(logging.FATAL)  # JAX tells which devices there are not.
    from benchmarks import network_table  # Imports JAX: not before tests have set its options.

    results = network_table.measure(_NETWORKS.value, _TURNS.value)
    print(network_table.training_table(results))
    profiles = network_table.profile_slowest(results)
    print(network_table.profile_table(profiles))
    return {"results": results, "profiles": profiles}


def measure_cores() -> dict[str, Any]:
    """Measures the networks of --networks on one core and on all; prints and returns the times."""
    logging.set_verbosity(logging.FATAL)
    from benchmarks import core_table  # As above.

    try:
        results = core_table.measure(_NETWORKS.value, _TURNS.value)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(core_table.format_results(results))
    return {"results": results}


def main(argv: Sequence[str]) -> None:
    """Measures, prints the table and writes the JSON file."""
    del argv
    machine_info = machine.describe_machine()
    print(machine.format_machine(machine_info))
    if _TABLE.value:
        measured = measure_networks()
    elif _CORES.value:
        measured = measure_cores()
    else:
        measured = {"results": measure()}
        print("\n".join(table(measured["results"])))
    text = json.dumps(machine_info | measured, indent=2) + "\n"
    Path(_JSON.value).write_text(text, "utf-8")
    print(f"Results written to {_JSON.value}")


if __name__ == "__main__":
    app.run(main)
