"""Real processes that train together equal a single one, also after stop signals and kills."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.evaluation import loading
from cnn_jax.io.workdir import read_metrics
from tests.distributed import processes
from tests.distributed.processes import ProcessResult
from tests.support import small
from tests.support.once import make_once

# Each start of a cluster takes some seconds, most of them for imports and compilation.
pytestmark = pytest.mark.cluster


def train(
    workdir: Path,
    count: int,
    devices: int,
    *,
    before: Any = None,
    lose_folder: bool = False,
    signal_number: int = 0,
    **changes: Any,
) -> list[ProcessResult]:
    """Trains in `count` processes.

    Args:
      workdir: of the run.
      count: number of processes.
      devices: simulated devices of each process.
      before: [epoch, first batch] before which process 1 sends itself a signal, or None.
      lose_folder: whether the folder of the checkpoints is lost before the first save.
      signal_number: of that signal.
      **changes: to the config of the small run.
    """
    training = {
        "workdir": str(workdir),
        "changes": {"film_frames": 4, **changes},
        "before": before,
        "lose_folder": lose_folder,
        "signal": signal_number,
    }
    environment = {
        "TRAINING": json.dumps(training),
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # As in this process. Compilation takes longest.
    }
    scenario = "train until killed" if signal_number == signal.SIGKILL else "train"
    return processes.run_cluster(scenario, count, **environment)


def film_of(workdir: Path) -> dict[str, bytes]:
    """Returns the content of every frame of a film."""
    return {path.name: path.read_bytes() for path in workdir.glob("film/*.frame")}


def read_result(workdir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((workdir / "result.json").read_text())
    return content


def metrics_rows(workdir: Path) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl without their times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(workdir)]


@pytest.fixture(scope="module")
def two_by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ProcessResult]]:
    """The run of two processes with two devices each; tests must not change its workdir."""
    return make_once(tmp_path_factory, "two_by_two", lambda workdir: train(workdir, 2, 2))


def test_only_process_0_prints(two_by_two: tuple[Path, list[ProcessResult]]) -> None:
    workdir, (first, second) = two_by_two
    assert (first.status, first.err) == (second.status, second.err) == (0, "")
    assert second.out == ""
    lines = first.out.splitlines()
    assert "Processes: 2" in lines
    result = read_result(workdir)
    assert lines[-1] == f"Test accuracy: {100 * result['test_accuracy']:.2f}%"
    assert len(result["devices"]) == 4
    assert len(metrics_rows(workdir)) == 2 * (3 + 1) + 1


@pytest.mark.parametrize(("count", "devices"), [(1, 4), (4, 1)])
def test_metrics_do_not_depend_on_the_number_of_processes(
    two_by_two: tuple[Path, list[ProcessResult]], tmp_path: Path, count: int, devices: int
) -> None:
    # Four devices in all, each with 4 examples of a batch of 16. The order of sums differs.
    results = train(tmp_path / "w", count, devices)
    assert [(result.status, result.err) for result in results] == [(0, "")] * count
    expected_rows = metrics_rows(two_by_two[0])
    for row, expected_row in zip(metrics_rows(tmp_path / "w"), expected_rows, strict=True):
        assert row["loss"] == pytest.approx(expected_row["loss"], rel=1e-5)
        assert row == expected_row | {"loss": row["loss"]}
    params, expected_params = (
        loading.load(str(workdir), warn=print).params for workdir in (tmp_path / "w", two_by_two[0])
    )
    kernels = (params["conv_2"]["kernel"], expected_params["conv_2"]["kernel"])
    np.testing.assert_allclose(*kernels, atol=1e-5)


def test_files_give_the_bits_of_the_same_arrays_by_another_name(
    two_by_two: tuple[Path, list[ProcessResult]], tmp_path: Path
) -> None:
    digits = data.load("digits")
    np.savez(
        tmp_path / "digits.npz",
        x_train=digits.train.image[:70],
        y_train=digits.train.label[:70],
        x_test=digits.test.image[:30],
        y_test=digits.test.label[:30],
    )
    changes: dict[str, Any] = {
        "dataset.name": "files",
        "dataset.path": str(tmp_path / "digits.npz"),
        "dataset.train_split": "train",
        "dataset.test_split": "test",
    }
    results = train(tmp_path / "w", 2, 2, **changes)
    assert [(result.status, result.err) for result in results] == [(0, "")] * 2
    assert results[0].out.startswith("Data: NumPy .npz: 70 train, 30 test\n")
    expected = read_result(two_by_two[0])["params_sha256"]
    assert read_result(tmp_path / "w")["params_sha256"] == expected


def test_stopped_and_then_killed_cluster_resumes_exactly(
    two_by_two: tuple[Path, list[ProcessResult]], tmp_path: Path
) -> None:
    # SIGTERM to process 1 in the middle of the first epoch: both save, and end together.
    stopped = train(tmp_path, 2, 2, before=[1, 2], signal_number=signal.SIGTERM)
    assert [result.status for result in stopped] == [128 + signal.SIGTERM] * 2
    for result in stopped:
        assert result.err.startswith("stopped by SIGTERM: after step ")
    # SIGKILL to process 1 in the second epoch: process 0 ends after the heartbeat timeout.
    survivor, victim = train(tmp_path, 2, 2, before=[2, 2], signal_number=signal.SIGKILL)
    assert (survivor.status, victim.status) == (2, -signal.SIGKILL)
    (line,) = survivor.err.splitlines()
    assert line.startswith("error: process 1 on ")
    assert "start the same command on all hosts again" in line
    assert survivor.seconds < processes.HEARTBEAT_SECONDS["train until killed"] + 5
    # Resumed to the end, the run has the same bits as the straight one.
    assert [result.status for result in train(tmp_path, 2, 2)] == [0, 0]
    assert metrics_rows(tmp_path) == metrics_rows(two_by_two[0])
    # Steps 0; 10 ** (1/3) = 2.2; 2 * (10/2) ** (1/2) = 4.5; 10.
    assert film_of(tmp_path).keys() == {"0.frame", "2.frame", "4.frame", "10.frame"}
    assert film_of(tmp_path) == film_of(two_by_two[0])
    assert read_result(tmp_path)["params_sha256"] == read_result(two_by_two[0])["params_sha256"]


def test_failed_write_of_process_0_ends_all(tmp_path: Path) -> None:
    first, second = train(tmp_path, 2, 1, lose_folder=True)
    assert (first.status, second.status) == (2, 2)
    # Orbax's own messages precede it here; `main.py` hides them.
    assert f"error: cannot write checkpoint 5 of {tmp_path / 'checkpoints'} (" in first.err
    assert second.err.startswith("error: process 0 on ")
    assert " has ended: cannot write checkpoint 5 of " in second.err


def test_models_of_several_processes_equal_those_of_a_single_process(tmp_path: Path) -> None:
    # Each process trains one model on its device, from a stream. The order of sums differs.
    changes: dict[str, Any] = {"num_models": 2, "num_epochs": 1}
    results = train(tmp_path, 2, 1, **changes | {"dataset.feed": "stream"})
    # Standard error may contain messages of the worker processes that read.
    assert [result.status for result in results] == [0, 0]
    single = small.run(None, **changes)
    assert single.models
    for values, expected in zip(read_result(tmp_path)["models"], single.models, strict=True):
        assert values == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}
