"""The benchmarks run; what they measure is no test's business."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import floor, train_speed


def result(train_seconds: list[float], test_accuracy: list[float]) -> dict[str, Any]:
    return {
        "start_seconds": 2.0,
        "train_seconds": train_seconds,
        "score_train_seconds": [0.5] * len(train_seconds),
        "score_test_seconds": [0.25] * len(train_seconds),
        "test_accuracy": test_accuracy,
        "peak_megabytes": 100.0,
    }


def test_time_to_the_goal_counts_the_start_and_the_epochs_up_to_it() -> None:
    # 2 s, then epochs of 4 and of 5 s, the second of which reaches 97.7 %.
    assert train_speed.seconds_to_goal(result([4, 5, 6], [0.9, 0.977, 0.98])) == 11
    assert train_speed.seconds_to_goal(result([4, 5], [0.9, 0.9769])) is None


def test_a_whole_run_scores_the_test_set_once() -> None:
    # 2 to start, 4 + 5 of training, 0.5 twice for the training set, 0.25 once.
    assert train_speed.seconds_of_run(result([4, 5], [0, 0])) == 12.25


def test_the_table_gives_ratios_to_this_project() -> None:
    results = {"cnn_jax": result([1, 2, 3], [0, 0, 0]), "plain Flax": result([5, 8, 9], [0, 0, 1])}
    lines = train_speed.table(results)
    # Medians 2 and 8: four times as long. Whole runs: 2 + 6 + 1.5 + 0.25 and 2 + 22 + 1.5 + 0.25.
    assert lines[-2].split()[1:] == ["2.0", "2.00", "(", "1.00", "-", "3.00)", "3", "1.00", "0.50",
                                     "0.250", "9.8", "1.00", "-", "100"]  # fmt: skip
    assert lines[-1].split()[2:] == ["2.0", "8.00", "(", "5.00", "-", "9.00)", "3", "4.00", "0.50",
                                     "0.250", "25.8", "2.64", "24.0", "100"]  # fmt: skip


def test_the_floor_counts_the_operations_of_a_step() -> None:
    # Forward, an image: 28*28*9*8 + 14*14*72*16 + 784*10 = 56,448 + 225,792 + 7,840 multiply-adds.
    # Backward twice that, but for the gradient of the image. Two operations each, 128 images.
    assert floor.step_operations() == 2 * 128 * (3 * 290_080 - 56_448)


# Some 30 s, since each contender is a process that starts from nothing: two steps of each.
def test_every_contender_trains(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/train_speed.py", "--dataset=digits"]
    process = subprocess.run(
        [*command, "--epochs=1", "--steps=2", f"--json={file}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(file.read_text())["results"]
    expected = ["cnn_jax", "cnn_jax, mnist_fast", "plain Flax"]
    if find_spec("torch"):
        expected += ["PyTorch", "PyTorch, channels_last", "PyTorch, as published"]
    assert list(results) == expected
    for measured in results.values():
        assert measured["train_seconds"][0] > 0
        assert 0 < measured["test_accuracy"][0] < 1
    if not find_spec("torch"):
        pytest.skip("PyTorch is not installed: its contenders were left out")


def test_the_cost_of_a_checkpoint_is_measured() -> None:
    command = [sys.executable, "benchmarks/checkpoint_cost.py", "--recipe=digits"]
    process = subprocess.run(
        [*command, "--epochs=1", "--saves=2"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert re.search(r"until training can go on +[\d.]+ ms .*, n = 2\n", process.stdout)
    # Parameters and two moments: 16 x 9 + 32 x 144 + 1568 x 10 weights and 58 biases, float32.
    # Compression takes a tenth.
    (size,) = re.findall(r"\d+ files, ([\d,]+) bytes", process.stdout)
    assert int(size.replace(",", "")) > 0.8 * 3 * 4 * (144 + 4608 + 15680 + 58)
