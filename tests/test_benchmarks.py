"""The benchmarks run, and their tables follow from the measurements. No timing is tested."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import collectives, floor, hlo, scaling_tables, train_speed
from benchmarks.networks import NETWORKS, describe, generate
from benchmarks.scaling_tables import Row


def make_result(train_seconds: list[float], test_accuracy: list[float]) -> dict[str, Any]:
    """Returns the measurements of a contender, one epoch for each element."""
    return {
        "start_seconds": 2.0,
        "train_seconds": train_seconds,
        "eval_train_seconds": [0.5] * len(train_seconds),
        "eval_test_seconds": [0.25] * len(train_seconds),
        "test_accuracy": test_accuracy,
        "peak_megabytes": 100.0,
    }


def test_time_to_target_accuracy_is_the_start_and_the_epochs_until_it() -> None:
    # A start of 2 s, then epochs of 4 and 5 s, of which the second reaches 97.7 %.
    assert train_speed.seconds_to_target_accuracy(make_result([4, 5, 6], [0.9, 0.977, 0.98])) == 11
    assert train_speed.seconds_to_target_accuracy(make_result([4, 5], [0.9, 0.9769])) is None


def test_full_run_evaluates_the_test_set_once() -> None:
    # Start 2, training 4 + 5, evaluation of the training set 2 * 0.5, of the test set 0.25.
    assert train_speed.full_run_seconds(make_result([4, 5], [0, 0])) == 12.25


def test_training_table_has_ratios_to_this_project() -> None:
    results = {
        "cnn_jax": make_result([1, 2, 3], [0, 0, 0]),
        "plain Flax": make_result([5, 8, 9], [0, 0, 1]),
    }
    lines = train_speed.table(results)
    # Medians 2 and 8: four times as long. Full runs: 2 + 6 + 1.5 + 0.25 and 2 + 22 + 1.5 + 0.25.
    assert lines[-2].split()[1:] == ["2.0", "2.00", "(", "1.00", "-", "3.00)", "3", "1.00", "0.50",
                                     "0.250", "9.8", "1.00", "-", "100"]  # fmt: skip
    assert lines[-1].split()[2:] == ["2.0", "8.00", "(", "5.00", "-", "9.00)", "3", "4.00", "0.50",
                                     "0.250", "25.8", "2.64", "24.0", "100"]  # fmt: skip


def test_floor_counts_the_operations_of_a_step() -> None:
    # Forward, per image: 28*28*9*8 + 14*14*72*16 + 784*10 = 56,448 + 225,792 + 7,840 multiply-adds.
    # Backward: twice that, without the gradient of the image. Two operations each, 128 images.
    config = NETWORKS["reference"].config
    info = describe(generate((28, 28, 1), 1))
    assert floor.step_operations(config, info) == 2 * 128 * (3 * 290_080 - 56_448)


def test_floor_counts_the_bytes_of_a_step() -> None:
    # The images twice; both pooled maps, 14*14*8 and 7*7*16 values, five times; 9,098 parameters
    # five times; values of four bytes.
    config = NETWORKS["reference"].config
    info = describe(generate((28, 28, 1), 1))
    expected = 128 * (2 * 784 + 5 * 4 * (1568 + 784)) + 5 * 4 * 9098
    assert floor.step_bytes(config, info) == expected


# About 20 s, because each contender is a process that imports and compiles for its two steps.
@pytest.mark.benchmark
def test_every_contender_trains(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/train_speed.py", "--dataset=digits"]
    process = subprocess.run(
        [*command, "--epochs=1", "--steps=2", f"--json={file}"],
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},  # Compiling takes most of it.
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


@pytest.mark.benchmark
def test_cost_of_a_checkpoint_is_measured() -> None:
    command = [sys.executable, "benchmarks/checkpoint_cost.py", "--config=digits"]
    process = subprocess.run(
        [*command, "--epochs=1", "--saves=2"],
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert re.search(r"until training resumes +[\d.]+ ms .*, n = 2\n", process.stdout)
    # Parameters and two moments: 16 x 9 + 32 x 144 + 1568 x 10 weights and 58 biases, float32.
    # Compression saves a tenth.
    (size,) = re.findall(r"\d+ files, ([\d,]+) bytes", process.stdout)
    assert int(size.replace(",", "")) > 0.8 * 3 * 4 * (144 + 4608 + 15680 + 58)


@pytest.mark.parametrize("text", ["8x1", "gpux64", "1x1xstream"])
def test_name_of_a_row_is_the_text_it_was_parsed_from(text: str) -> None:
    assert Row.parse(text).name == text


@pytest.mark.parametrize("text", ["8", "0x1", "1x0", "cpux1", "1x1xdisk", "1x1xstreamx2"])
def test_invalid_row_is_refused(text: str) -> None:
    message = f"^{text} is invalid: a row must be DEVICESxMODELS or DEVICESxMODELSxstream, with "
    with pytest.raises(ValueError, match=message):
        Row.parse(text)


# 50 steps per epoch of 6,100 images.
SCALED: dict[Row, dict[str, Any]] = {
    Row("1", 1, "device"): {
        "start_seconds": 3.1,
        "num_steps": 50,
        "num_train": 6100,
        "train_seconds": [0.1, 0.2, 0.5],
        "train_cpu_seconds": [0.2, 0.4, 0.8],
        "eval_seconds": [0.1, 0.1, 0.1],
        "peak_megabytes": 400.0,
        "data_devices": 1,
        "collectives": {},
    },
    Row("4", 8, "device"): {
        "start_seconds": 6.4,
        "num_steps": 50,
        "num_train": 6100,
        "train_seconds": [4.0, 2.0, 1.0],
        "train_cpu_seconds": [6.0, 3.6, 2.0],
        "eval_seconds": [0.8, 0.8, 0.8],
        "peak_megabytes": 470.0,
        "data_devices": 2,
        "collectives": {"all-reduce": [3, 1234], "all-gather": [1, 8]},
    },
    Row("4", 1, "device"): {
        "start_seconds": 6.4,
        "num_steps": 50,
        "num_train": 6100,
        "train_seconds": [1.0],
        "train_cpu_seconds": [2.0],
        "eval_seconds": [0.5],
        "peak_megabytes": 435.0,
        "data_devices": 4,
        "collectives": {},
    },
}


def test_scaling_table_counts_per_step_model_and_hour() -> None:
    single, eight, shared = scaling_tables.training_table(SCALED)[2:]
    # 0.2 s / 50 steps = 4 ms; 0.4 s of CPU time / 50 = 8 ms.
    # 6,100 images / 0.2 s = 30,500 per second, and 61,000 in evaluation.
    # A reference run: 3.1 s + 4,690 steps * 4 ms + 610,000 images / 61,000 = 31.86 s; 113 per hour.
    assert single.split() == ["1", "1", "device", "3.1", "4.000", "(2.000", "-", "10.000)", "3",
                           "1.00", "8.000", "30,500", "61,000", "113", "400", "-"]  # fmt: skip
    # 2 s / 50 steps / 8 models = 5 ms, 5/4 as much; 3.6 s of CPU time, 9 ms.
    # 8 * 6,100 images in 2 s, evaluated in 0.8 s.
    # 8 runs: 6.4 s + 8 * (4,690 * 5 ms + 610,000 / 61,000) = 274 s; 3,600 / 274 * 8 = 105.1.
    # Eight models take 35 MB more than one model on as many devices: 35 / 7 = 5 MB per model.
    assert eight.split() == ["4", "8", "device", "6.4", "5.000", "(2.500", "-", "10.000)", "3",
                             "1.25", "9.000", "24,400", "61,000", "105", "470", "5.00"]  # fmt: skip
    assert shared.split()[-1] == "-"


def test_memory_per_model_needs_a_row_with_one_model() -> None:
    row = Row("4", 8, "device")
    assert scaling_tables.megabytes_per_model(row, {row: SCALED[row]}) is None


def test_collectives_are_reported_for_several_devices() -> None:
    assert scaling_tables.collective_lines(SCALED) == [
        "4x8: 2 devices share each batch; a step has 3 all-reduces of 1,234 bytes, "
        "1 all-gather of 8 bytes",
        "4x1: 4 devices share each batch; a step has no collectives",
    ]


def test_reading_table_counts_images_per_second() -> None:
    measured = {"start_seconds": 1.5, "num_images": 6400, "read_seconds": [0.5, 1.0, 0.25]}
    (line,) = scaling_tables.reading_table({2: measured})[2:]
    assert line.split() == ["2", "1.5", "12,800", "(", "6,400", "-", "25,600)", "3"]


PROGRAM = """HloModule jit__train_steps, entry_computation_layout={()->f32[2]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %a)
}

%inner (p: (s32[], f32[10])) -> (s32[], f32[10]) {
  %all-reduce.1 = f32[10]{0} all-reduce(%x), channel_id=1, to_apply=%add
  ROOT %t = (s32[], f32[10]{0}) tuple(%i, %all-reduce.1)
}

%c (p: (s32[], f32[10])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

%called (p: f32[2,3]) -> f32[2,3] {
  %all-gather.1 = f32[2,6]{1,0} all-gather(%p), channel_id=9, dimensions={1}
  ROOT %all-reduce.2 = f32[2,3]{1,0} all-reduce-start(%p), channel_id=2, to_apply=%add
}

%step (p: (s32[], f32[10])) -> (s32[], f32[10]) {
  %w = (s32[], f32[10]{0}) while(%p), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %c.1 = f32[2,3]{1,0} call(%y), to_apply=%called
  %all-reduce.3 = (s32[4]{0}, /*index=1*/pred[5]{0}, bf16[]) all-reduce(%u, %v, %w), to_apply=%add
  ROOT %t = (s32[], f32[10]{0}) tuple(%i, %z)
}

ENTRY %main (p: f32[2]) -> f32[2] {
  %all-reduce.4 = f32[99]{0} all-reduce(%p), channel_id=4, to_apply=%add
  %while.1 = (s32[], f32[10]{0}) while(%t), condition=%c, body=%step
  ROOT %r = f32[2]{0} parameter(0)
}
"""  # noqa: E501


def test_collectives_of_a_step_are_counted() -> None:
    # In a loop of three iterations 10 float32; 2 * 3 float32; 4 int32, 5 bytes and one bfloat16.
    # The 99 float32 are outside the step.
    assert collectives.count_collectives(PROGRAM) == {
        "all-reduce": (5, 3 * 40 + 24 + 16 + 5 + 2),
        "all-gather": (1, 48),
    }


def test_instructions_of_a_step_include_those_it_calls() -> None:
    loop = hlo.loop_over_steps(PROGRAM)
    assert loop.startswith("%while.1 = ")
    assert hlo.TRIP_COUNT.findall(loop) == []
    names = [line.removeprefix("ROOT ").split()[0] for line in hlo.step_instructions(PROGRAM)]
    # Those of the step, of the condition and body of its loop, of the computation that it calls,
    # and of the sum: once, though three instructions call it.
    assert names == ["%w", "%c.1", "%all-reduce.3", "%t", "%less", "%all-reduce.1", "%t",
                     "%all-gather.1", "%all-reduce.2", "%a", "%sum"]  # fmt: skip


@pytest.mark.benchmark
def test_scaling_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "scaling.json"
    command = [sys.executable, "benchmarks/scaling.py", "--dataset=digits", "--rows=2x1,1x2"]
    process = subprocess.run(
        [*command, "--workers=1", "--rounds=1", "--steps=2", f"--json={file}"],
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},  # Compiling takes most of it.
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(file.read_text())["results"]
    assert list(results) == ["2x1", "1x2", "stream_workers=1"]
    assert all(seconds > 0 for measured in results.values() for seconds in measured.values()
               if isinstance(seconds, float))  # fmt: skip
    assert [results[name]["data_devices"] for name in ("2x1", "1x2")] == [2, 1]
    # Float32 gradients of 80 + 1,168 + 7,850 parameters, the sum of the loss, and two counts.
    num_values = 80 + 1168 + 7850 + 1 + 2
    assert results["2x1"]["collectives"] == {"all-reduce": [2, 4 * num_values]}
    assert results["1x2"]["collectives"] == {}


def test_the_benchmark_of_own_pictures_starts_as_documented() -> None:
    program = Path(__file__).parents[1] / "benchmarks" / "own_pictures.py"
    done = subprocess.run(
        [sys.executable, program, "--help"], capture_output=True, text=True, check=False
    )
    assert "--own_digits" in done.stdout, done.stderr
