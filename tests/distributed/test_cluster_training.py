"""Real processes that train together: as one with as many devices, cut by signals and by death."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax.evaluation import trained
from cnn_jax.io.workdir import read_metrics
from tests.distributed import processes
from tests.distributed.processes import Ending
from tests.support import small

# Each start of a cluster takes some seconds, most of which go into imports and compiling.
pytestmark = pytest.mark.durability


def train(
    workdir: Path, count: int, devices: int, *, before: Any = None, number: int = 0, **changes: Any
) -> list[Ending]:
    """Trains in `count` processes; process 1 sends itself a signal before a step."""
    training = {"workdir": str(workdir), "changes": changes, "before": before, "signal": number}
    environment = {"TRAINING": json.dumps(training), "JAX_NUM_CPU_DEVICES": str(devices)}
    deed = "trains until killed" if number == signal.SIGKILL else "trains"
    return processes.run(deed, count, **environment)


def result_of(workdir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((workdir / "result.json").read_text())
    return content


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(workdir)]


@pytest.fixture(scope="module")
def two_by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Ending]]:
    """Two processes with two devices each; the workdir is to be left as it is."""
    workdir = tmp_path_factory.mktemp("two") / "workdir"
    return workdir, train(workdir, 2, 2)


def test_process_0_alone_speaks_and_writes(two_by_two: tuple[Path, list[Ending]]) -> None:
    workdir, (first, second) = two_by_two
    assert (first.status, first.err) == (second.status, second.err) == (0, "")
    assert second.out == ""
    lines = first.out.splitlines()
    assert "Processes: 2" in lines
    result = result_of(workdir)
    assert lines[-1] == f"Test accuracy: {100 * result['test_accuracy']:.2f}%"
    assert len(result["devices"]) == 4
    assert len(rows_of(workdir)) == 2 * (3 + 1) + 1
    # All have written the checkpoints: Orbax has a folder for each process that did.
    assert len(list((workdir / "checkpoints" / "10" / "state").glob("ocdbt.process_*"))) == 2


@pytest.mark.parametrize(("count", "devices"), [(1, 4), (4, 1)])
def test_any_number_of_processes_computes_the_same(
    two_by_two: tuple[Path, list[Ending]], tmp_path: Path, count: int, devices: int
) -> None:
    # Four devices in all; batches of 16 are 4 examples for each. Sums of another order.
    endings = train(tmp_path / "w", count, devices)
    assert [(ending.status, ending.err) for ending in endings] == [(0, "")] * count
    expected = rows_of(two_by_two[0])
    for row, like in zip(rows_of(tmp_path / "w"), expected, strict=True):
        assert row["loss"] == pytest.approx(like["loss"], rel=1e-5)
        assert row == like | {"loss": row["loss"]}
    params, others = (
        trained.load(str(workdir), None, print).params
        for workdir in (tmp_path / "w", two_by_two[0])
    )
    kernels = (params["conv_2"]["kernel"], others["conv_2"]["kernel"])
    np.testing.assert_allclose(*kernels, atol=1e-5)


def test_a_cluster_that_is_stopped_and_then_killed_goes_on_exactly(
    two_by_two: tuple[Path, list[Ending]], tmp_path: Path
) -> None:
    # SIGTERM to one of two, in the middle of the first epoch: both save, and end together.
    stopped = train(tmp_path, 2, 2, before=[1, 2], number=signal.SIGTERM)
    assert [ending.status for ending in stopped] == [128 + signal.SIGTERM] * 2
    for ending in stopped:
        assert ending.err.startswith("stopped by SIGTERM: after step ")
    # SIGKILL to one, in the second epoch: the other one ends within the heartbeat's time.
    survivor, victim = train(tmp_path, 2, 2, before=[2, 2], number=signal.SIGKILL)
    assert (survivor.status, victim.status) == (2, -signal.SIGKILL)
    (line,) = survivor.err.splitlines()
    assert line.startswith("error: process 1 on ")
    assert "start the same command on all hosts again" in line
    assert survivor.seconds < processes.HEARTBEAT_SECONDS["trains until killed"] + 5
    # Once more, to the end: the bits of a run that was never cut.
    assert [ending.status for ending in train(tmp_path, 2, 2)] == [0, 0]
    assert rows_of(tmp_path) == rows_of(two_by_two[0])
    assert result_of(tmp_path)["params_sha256"] == result_of(two_by_two[0])["params_sha256"]


def test_networks_of_different_processes_are_those_of_one(tmp_path: Path) -> None:
    # Each has a network of its own on its one device, and reads its own batches. Here XLA is told
    # not to optimize, there it does: sums of another order.
    changes: dict[str, Any] = {"num_models": 2, "num_epochs": 1}
    endings = train(tmp_path, 2, 1, **changes | {"dataset.feed": "stream"})
    # What a stream leaves on standard error is the business of `test_stream.py`.
    assert [ending.status for ending in endings] == [0, 0]
    alone = small.run(None, **changes)
    assert alone.networks
    for found, expected in zip(result_of(tmp_path)["networks"], alone.networks, strict=True):
        assert found == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}
