"""A run that was cut goes on, and ends as if it had not been; anything else is said."""

import dataclasses
import io
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import experiment
from cnn_jax.checkpoint.manager import MAX_TO_KEEP, Checkpoints
from cnn_jax.engine import compile
from cnn_jax.engine.compile import Programs
from cnn_jax.errors import Stopped, UserError
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.training import chunking, resume
from tests.support.small import run, small_config

pytestmark = pytest.mark.durability

ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "one_cycle", "weight_decay": 0.1}
STEPS = 10  # Of `small_config`: two epochs of five.


def cut_run(workdir: Path, after: int, **changes: Any) -> Stopped:
    """Runs until a step is taken, when Ctrl-C is pressed."""
    batches = TrainLogger.batches

    def interrupted(self: TrainLogger, epoch: int, batch: int, *rest: Any, **named: Any) -> None:
        batches(self, epoch, batch, *rest, **named)
        if (epoch - 1) * (STEPS // 2) + batch >= after:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "SECONDS", 0)  # One step a call: so it can be cut after each.
        patch.setattr(TrainLogger, "batches", interrupted)
        with pytest.raises(Stopped) as stopped:
            run(workdir, **changes)
    return stopped.value


def metrics(workdir: Path) -> list[dict[str, Any]]:
    """The rows without their times."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def steps(workdir: Path) -> list[int]:
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.steps()


@pytest.fixture
def finished(straight: tuple[Path, Result], tmp_path: Path) -> Path:
    return Path(shutil.copytree(straight[0], tmp_path / "finished"))


def without_times(result: Result) -> dict[str, Any]:
    return {k: v for k, v in result.to_json().items() if not k.endswith("seconds")}


@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.9}, ADAMW], ids=["sgd", "momentum", "adamw"]
)
def test_a_run_cut_after_every_single_step_ends_as_one_never_cut(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    # Steps 1, 3, 6 and 8 are in the middle of a row of metrics, 5 and 10 at the end of an epoch.
    expected = run(tmp_path / "straight", **changes)
    for step in range(1, STEPS + 1):
        stopped = cut_run(tmp_path / "cut", step, **changes)
        assert f"after step {step} of {STEPS}, saved in" in str(stopped)
        assert steps(tmp_path / "cut")[-1] == step
    result = run(tmp_path / "cut", **changes)
    assert result.params_sha256 == expected.params_sha256
    assert without_times(result) == without_times(expected)
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "straight")
    assert len(result.epoch_seconds) == 2
    assert len(steps(tmp_path / "cut")) == MAX_TO_KEEP


def test_a_run_cut_while_scoring_ends_as_one_never_cut(
    straight: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The steps of an epoch are done and saved, its row is not written: it is scored again.
    with monkeypatch.context() as patch:
        patch.setattr(TrainLogger, "epoch_accuracy", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped) as stopped:
            run(tmp_path)
    assert stopped.value.number == signal.SIGTERM
    assert run(tmp_path).params_sha256 == straight[1].params_sha256
    assert metrics(tmp_path) == metrics(straight[0])


def test_a_request_in_the_last_moment_finds_the_run_finished(
    straight: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrainLogger, "test_accuracy", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Stopped, match="when the run was finished"):
            run(tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["params_sha256"] == straight[1].params_sha256


def test_without_a_workdir_it_is_said_that_nothing_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TrainLogger, "batches", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Stopped, match="after step 1 of 10, and nothing is saved without a"):
        run(None)


def test_seconds_add_up_over_processes(tmp_path: Path) -> None:
    def ticking() -> Callable[[], float]:
        now = iter(range(100_000))
        return lambda: float(next(now))

    config = small_config(num_epochs=1)
    whole = experiment.run(config, str(tmp_path / "a"), out=io.StringIO(), clock=ticking())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainLogger, "epoch_accuracy", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Stopped):
            experiment.run(config, str(tmp_path / "b"), out=io.StringIO(), clock=ticking())
    result = experiment.run(config, str(tmp_path / "b"), out=io.StringIO(), clock=ticking())
    assert result.epoch_seconds == whole.epoch_seconds  # All of it was before the cut.
    assert result.compile_seconds == 2 * whole.compile_seconds
    assert result.total_seconds > whole.total_seconds


def test_a_finished_run_says_so_and_is_left_as_it_is(
    straight: tuple[Path, Result], finished: Path
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*.json*")}
    out = io.StringIO()
    result = experiment.run(small_config(), str(finished), out=out, err=io.StringIO())
    accuracy = f"Test accuracy: {100 * straight[1].test_accuracy:.2f}%"
    assert out.getvalue().splitlines() == ["This run is finished after 2 epochs.", accuracy]
    assert result.to_json() == straight[1].to_json()
    for one, other in zip(
        jax.tree.leaves(result.params), jax.tree.leaves(straight[1].params), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert {p: p.read_bytes() for p in finished.rglob("*.json*")} == before


@pytest.mark.parametrize("content", [None, "{", "{}", '{"steps": 10}'])
def test_a_finished_run_without_its_result_gets_it_back(
    straight: tuple[Path, Result], finished: Path, content: str | None
) -> None:
    if content is None:  # It died between the last checkpoint and this file.
        (finished / "result.json").unlink()
    else:
        (finished / "result.json").write_text(content)
    assert without_times(run(finished)) == without_times(straight[1])
    assert metrics(finished) == metrics(straight[0])


def test_more_epochs_train_on(finished: Path, tmp_path: Path) -> None:
    expected = run(tmp_path / "three", num_epochs=3)
    assert run(finished, num_epochs=3).params_sha256 == expected.params_sha256
    assert metrics(finished) == metrics(tmp_path / "three")  # With one test row, the last.
    assert json.loads((finished / "config.json").read_text())["config"]["num_epochs"] == 3


def test_more_epochs_would_change_a_schedule_that_depends_on_them(tmp_path: Path) -> None:
    cut_run(tmp_path, 3, **ADAMW)
    words = "num_epochs was 2 and is 3, which schedule=one_cycle depends on"
    with pytest.raises(UserError, match=words):
        run(tmp_path, num_epochs=3, **ADAMW)


def test_every_other_change_is_listed_and_changes_nothing(finished: Path) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UserError) as error:
        run(finished, seed=2, learning_rate=0.2, checkpoint_every_epochs=2, num_epochs=1)
    for change in (
        "seed was 1 and is 2",
        "learning_rate was 0.1 and is 0.2",
        "checkpoint_every_epochs was 1 and is 2",
        "num_epochs was 2 and is 1",
    ):
        assert change in str(error.value)
    with pytest.raises(UserError, match=r"model\.activation was relu and is sigmoid: allowed"):
        run(finished, **{"model.activation": "sigmoid"})
    after = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before


def test_where_the_data_lie_may_change(finished: Path) -> None:
    run(finished, **{"dataset.data_dir": "/elsewhere", "dataset.manual_dir": "/there"})


def test_a_checkpoint_of_another_model_is_refused_with_the_array_that_differs(
    finished: Path, tmp_path: Path
) -> None:
    # The folder `checkpoints` was put into another workdir.
    (tmp_path / "w").mkdir()
    (finished / "checkpoints").rename(tmp_path / "w" / "checkpoints")
    words = (
        r"model\.features was 8,16 and is 8,4; "
        r"the array params\.conv_2\.bias is float32\[16\] there and float32\[4\] here"
    )
    with pytest.raises(UserError, match=words):
        run(tmp_path / "w", **{"model.features": (8, 4)})


def test_a_damaged_newest_checkpoint_costs_only_its_steps(
    straight: tuple[Path, Result], finished: Path
) -> None:
    (finished / "checkpoints" / "10" / "record" / "metadata").write_text("{")
    err = io.StringIO()
    assert run(finished, err=err).params_sha256 == straight[1].params_sha256
    (warning,) = err.getvalue().splitlines()
    assert warning.startswith("warning: ")
    assert "checkpoint 10 is damaged" in warning
    assert metrics(finished) == metrics(straight[0])
    assert steps(finished) == [5, 10]


def test_another_environment_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_run(tmp_path, 7)
    err = io.StringIO()
    run(tmp_path, err=err)
    assert err.getvalue() == ""
    monkeypatch.setattr(resume, "devices", lambda: ["gpu:0 H100"])
    shutil.rmtree(tmp_path / "checkpoints" / "10")
    run(tmp_path, err=err)
    (line,) = err.getvalue().splitlines()
    assert re.fullmatch(
        r"warning: this run was saved with jax .*, cpu:0 cpu and goes on with jax .*, "
        r"gpu:0 H100: its bits may differ",
        line,
    )


def test_lost_metrics_are_said_and_the_run_goes_on(
    straight: tuple[Path, Result], tmp_path: Path
) -> None:
    cut_run(tmp_path, 7)
    (tmp_path / "metrics.jsonl").unlink()
    err = io.StringIO()
    assert run(tmp_path, err=err).params_sha256 == straight[1].params_sha256
    assert "has lost rows" in err.getvalue()


def test_a_run_that_came_to_no_checkpoint_begins_again(
    straight: tuple[Path, Result], finished: Path
) -> None:
    # As after SIGKILL in the first epoch: some rows, no checkpoint, no result.
    shutil.rmtree(finished / "checkpoints")
    (finished / "result.json").unlink()
    with pytest.raises(UserError, match="seed was 1 and is 2"):
        run(finished, seed=2)
    assert run(finished).params_sha256 == straight[1].params_sha256
    assert metrics(finished) == metrics(straight[0])


@pytest.mark.parametrize("gone", [[], ["metrics.jsonl"], ["config.json"]])
def test_a_result_without_checkpoints_is_not_written_over(finished: Path, gone: list[str]) -> None:
    shutil.rmtree(finished / "checkpoints")
    for name in gone:
        (finished / name).unlink()
    before = (finished / "result.json").read_bytes()
    with pytest.raises(UserError, match="holds a run already, and no checkpoint to go on from"):
        run(finished)
    assert (finished / "result.json").read_bytes() == before


def test_somebody_elses_metrics_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("precious")
    with pytest.raises(UserError, match="holds a run already"):
        run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "precious"


def test_checkpoints_are_as_far_apart_as_asked(tmp_path: Path) -> None:
    run(tmp_path, num_epochs=5, checkpoint_every_epochs=2)
    assert steps(tmp_path) == [10, 20, 25]  # After epochs 2 and 4, and at the end.


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(
    straight: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_programs = compile.compile_programs

    def failing(*arguments: Any) -> Programs:
        compiled = compile_programs(*arguments)

        def train_steps(*arguments: Any) -> Any:
            state, total, last = compiled.train_steps(*arguments)
            if state.step > 5:  # What a step leaves its own loss does not show.
                state = state.replace(params=jax.tree.map(lambda p: p * jnp.nan, state.params))
            return state, total, last

        return dataclasses.replace(compiled, train_steps=train_steps)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "compile_programs", failing)
        words = r"nan between step \d and step \d; the checkpoint of step 5 stays"
        with pytest.raises(UserError, match=words):
            run(tmp_path)
    assert steps(tmp_path) == [5]
    assert run(tmp_path).params_sha256 == straight[1].params_sha256


def test_parameters_that_give_no_number_are_not_saved(tmp_path: Path) -> None:
    # The only step makes them so large, and its own loss is fine.
    changes = {"num_epochs": 1, "learning_rate": 1e38, "dataset.train_split": "train[:16]"}
    with pytest.raises(UserError, match=r"between step 0 and step 1: .*another --w"):
        run(tmp_path, **changes)
    assert steps(tmp_path) == []
