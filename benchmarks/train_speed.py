"""Measures the training of the reference network, this project's and its peers', in one run.

    python benchmarks/train_speed.py --data=FOLDER [--json=train_speed.json]

FOLDER holds the four original MNIST files; without --data they are downloaded. Needs the extra
`bench` (PyTorch); `contenders.py` says what is compared. The contenders take turns, an epoch each,
while the others wait, so that a machine that becomes slower becomes so for all. A run takes about
ten minutes on two cores. README.md in this folder has the method and results.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from absl import app, flags
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # Where `python -m benchmarks.contenders` finds its modules, too.

from benchmarks.contender import EPOCHS  # noqa: E402
from benchmarks.contenders import CONTENDERS  # noqa: E402

_DATA = flags.DEFINE_string("data", "", "The folder with the four original files; empty: download.")
_DATASET = flags.DEFINE_enum("dataset", "mnist", ["mnist", "digits"], "digits needs no files.")
_EPOCHS = flags.DEFINE_integer("epochs", EPOCHS, "Epochs of each contender.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 469, "Steps of 128 images an epoch.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "train_speed.json", "Where the results go.")

GOAL = 0.977  # The reference's test accuracy after ten epochs.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


class Process:
    """A contender at work in a process of its own."""

    def __init__(self, name: str) -> None:
        started = time.perf_counter()
        folder = str(Path(_DATA.value).expanduser().resolve()) if _DATA.value else ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", name, _DATASET.value, folder],
            cwd=ROOT,
            # Programs that an earlier run has compiled would hide what a start costs.
            env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        epochs = self._answer()["epochs"]
        self.epochs = min(epochs, _EPOCHS.value)
        self.result: dict[str, Any] = {
            "start_seconds": time.perf_counter() - started,
            "train_seconds": [],
            "score_train_seconds": [],
            "score_test_seconds": [],
            "test_accuracy": [],
        }

    def epoch(self, epoch: int) -> None:
        """Trains for an epoch, and scores both sets."""
        result = self.result
        result["train_seconds"].append(self._ask(f"train {epoch} {_STEPS.value}")["seconds"])
        result["score_train_seconds"].append(self._ask("score train")["seconds"])
        scored = self._ask("score test")
        result["score_test_seconds"].append(scored["seconds"])
        result["test_accuracy"].append(scored["value"])
        result["peak_megabytes"] = scored["peak_megabytes"]

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, order: str) -> dict[str, Any]:
        assert self._process.stdin
        print(order, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"a contender ended by itself, with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure() -> dict[str, dict[str, Any]]:
    """Runs all contenders in turns; returns the results by name."""
    has_torch = find_spec("torch") is not None
    names = [n for n in CONTENDERS if has_torch or "PyTorch" not in n]
    if not has_torch:
        print("PyTorch is not installed: its rows are left out (pip install -e '.[bench]').")
    processes = {}
    turns = len(names) * (1 + _EPOCHS.value)
    with tqdm(total=turns, unit=" turns", leave=False, disable=not sys.stderr.isatty()) as bar:
        for name in names:
            bar.set_description(f"start {name}")
            processes[name] = Process(name)
            bar.update()
        for epoch in range(1, _EPOCHS.value + 1):
            for name, process in processes.items():
                bar.set_description(f"epoch {epoch}, {name}")
                if epoch <= process.epochs:
                    process.epoch(epoch)
                bar.update()
    for process in processes.values():
        process.close()
    return {name: process.result for name, process in processes.items()}


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


def machine() -> dict[str, Any]:
    """Processor and versions."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    versions = {name: metadata.version(name) for name in PACKAGES if find_spec(name)}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions},
    }


def main(argv: Sequence[str]) -> None:
    """Measures, prints the table and writes the file."""
    del argv
    where = machine()
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    print(f"{where['cores']} cores of {where['cpu']}; {versions}")
    results = measure()
    print("\n".join(table(results)))
    Path(_JSON.value).write_text(json.dumps({**where, "results": results}, indent=2) + "\n")
    print(f"written to {_JSON.value}")


if __name__ == "__main__":
    app.run(main)
