"""Measures the training of the reference network, this project's and its peers', in one run.

    python benchmarks/train_speed.py --data=FOLDER [--json=train_speed.json]

FOLDER holds the four original MNIST files; without --data they are downloaded. Needs the extra
`bench` (PyTorch); `contenders.py` says what is compared. The contenders take turns, an epoch each,
while the others wait, so that a machine that becomes slower becomes so for all. A run takes about
ten minutes on two cores. README.md in this folder has the method and results.
"""

import functools
import json
import statistics
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine, options
from benchmarks.contender import EPOCHS
from benchmarks.contenders import CONTENDERS
from benchmarks.turns import Process, take_turns

_DATASET = options.define_dataset()
_EPOCHS = flags.DEFINE_integer("epochs", EPOCHS, "Epochs of each contender.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 469, "Steps of 128 images an epoch.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "train_speed.json", "Where the results go.")

GOAL = 0.977  # The reference's test accuracy after ten epochs.


class Contender(Process):
    """A contender at work."""

    def __init__(self, name: str) -> None:
        super().__init__("benchmarks.contenders", name, _DATASET.value, options.manual_dir())
        kinds = ("train_seconds", "score_train_seconds", "score_test_seconds", "test_accuracy")
        self.result |= {kind: [] for kind in kinds}

    def turn(self, number: int) -> None:
        """Trains for an epoch, and scores both sets."""
        if number > self.facts["epochs"]:
            return
        result = self.result
        result["train_seconds"].append(self._ask(f"train {number} {_STEPS.value}")["seconds"])
        result["score_train_seconds"].append(self._ask("score train")["seconds"])
        scored = self._ask("score test")
        result["score_test_seconds"].append(scored["seconds"])
        result["test_accuracy"].append(scored["value"])
        result["peak_megabytes"] = scored["peak_megabytes"]


def measure() -> dict[str, dict[str, Any]]:
    """Runs all contenders in turns; returns the results by name."""
    has_torch = find_spec("torch") is not None
    names = [n for n in CONTENDERS if has_torch or "PyTorch" not in n]
    if not has_torch:
        print("PyTorch is not installed: its rows are left out (pip install -e '.[bench]').")
    return take_turns({n: functools.partial(Contender, n) for n in names}, _EPOCHS.value)


def seconds_to_goal(result: dict[str, Any]) -> float | None:
    """Start and training up to the first epoch after which the test accuracy is `GOAL`, or None."""
    for epoch, accuracy in enumerate(result["test_accuracy"], start=1):
        if accuracy >= GOAL:
            return float(result["start_seconds"] + sum(result["train_seconds"][:epoch]))
    return None


def seconds_of_run(result: dict[str, Any]) -> float:
    """What the reference program does: every epoch's training and scoring, one test at the end."""
    return float(
        result["start_seconds"]
        + sum(result["train_seconds"])
        + sum(result["score_train_seconds"])
        + result["score_test_seconds"][-1]
    )


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results in lines; ratios are to this project with the reference recipe."""
    ours = results["cnn_jax"]
    our_epoch = statistics.median(ours["train_seconds"])
    lines = [
        "                        start   training, s an epoch   ratio  scoring, s   "
        "whole run       to 97.7 %  memory",
        "                            s   median (min - max)  n         train   test  "
        "     s  ratio       s        MB",
    ]
    for name, result in results.items():
        train = result["train_seconds"]
        median = statistics.median(train)
        goal = seconds_to_goal(result)
        run = seconds_of_run(result)
        lines.append(
            f"{name:<22} {result['start_seconds']:6.1f}  {median:6.2f} ({min(train):5.2f} -"
            f"{max(train):6.2f}) {len(train):2d} {median / our_epoch:6.2f}"
            f" {statistics.median(result['score_train_seconds']):7.2f}"
            f" {statistics.median(result['score_test_seconds']):6.3f}"
            f" {run:6.1f} {run / seconds_of_run(ours):6.2f}"
            f" {'-' if goal is None else f'{goal:.1f}':>8} {result['peak_megabytes']:9.0f}"
        )
    return lines


def main(argv: Sequence[str]) -> None:
    """Measures, prints the table and writes the file."""
    del argv
    where = machine.machine()
    print(machine.in_words(where))
    results = measure()
    print("\n".join(table(results)))
    Path(_JSON.value).write_text(json.dumps({**where, "results": results}, indent=2) + "\n")
    print(f"written to {_JSON.value}")


if __name__ == "__main__":
    app.run(main)
