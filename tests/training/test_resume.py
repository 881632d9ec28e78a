"""A resumed run equals a straight one; a workdir that cannot be resumed is refused."""

import dataclasses
import io
import json
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import experiment
from cnn_jax.checkpoint import metadata
from cnn_jax.checkpoint.manager import MAX_TO_KEEP
from cnn_jax.checkpoint.restore import list_steps
from cnn_jax.engine import compile
from cnn_jax.engine.compile import Programs
from cnn_jax.errors import Stopped, UserError
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.training import chunking, session
from cnn_jax.training.device_feed import DeviceFeed
from tests.support.small import AUGMENT, run, small_config

ADAMW = {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "one_cycle", "weight_decay": 0.1}
STEPS = 10  # Of `small_config`: two epochs of five.


def interrupt_run(workdir: Path, after: int, **changes: Any) -> Stopped:
    """Runs until Ctrl-C after a number of steps; returns the exception."""
    log_progress = TrainLogger.log_progress

    def interrupt(self: TrainLogger, epoch: int, batch: int, *rest: Any, **named: Any) -> None:
        log_progress(self, epoch, batch, *rest, **named)
        if (epoch - 1) * (STEPS // 2) + batch + named["advance"] >= after:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "SECONDS", 0)  # One step per chunk, to be stopped after any step.
        patch.setattr(TrainLogger, "log_progress", interrupt)
        with pytest.raises(Stopped) as stopped:
            run(workdir, **changes)
    return stopped.value


def metrics_rows(workdir: Path) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl without their times."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps of the checkpoints."""
    return list_steps(workdir / "checkpoints")


def file_contents(workdir: Path) -> dict[Path, bytes]:
    """Returns the content of every file but the lock."""
    paths = [path for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: path.read_bytes() for path in paths}


def json_contents(workdir: Path) -> dict[Path, bytes]:
    """Returns the content of every JSON file."""
    return {path: path.read_bytes() for path in workdir.rglob("*.json*")}


@pytest.fixture
def finished_workdir(straight_run: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of the workdir of the straight run, which a test may change."""
    return Path(shutil.copytree(straight_run[0], tmp_path / "finished"))


def without_times(result: Result) -> dict[str, Any]:
    return {k: v for k, v in result.to_json().items() if not k.endswith("seconds")}


# AdamW with a schedule has most to restore: two moments, and counts.
@pytest.mark.parametrize(
    ("changes", "interruptions"),
    [
        ({}, (3, 5, 8)),
        ({"momentum": 0.9}, (3,)),
        (AUGMENT, (3,)),
        ({"evaluate_every_epochs": 2}, (5, 7)),
        (ADAMW, (3, 5, 8)),
        pytest.param(ADAMW, range(1, STEPS + 1), marks=pytest.mark.durability),
    ],
    ids=["sgd", "momentum", "augmented", "evaluated", "adamw", "adamw, after every step"],
)
def test_resumed_run_equals_straight_run_bit_for_bit(
    changes: dict[str, Any], interruptions: Sequence[int], tmp_path: Path
) -> None:
    # Steps 1, 3, 6 and 8 lie between two rows of metrics, 5 and 10 at the end of an epoch.
    expected = run(tmp_path / "straight", **changes)
    resumed = tmp_path / "resumed"
    for step in interruptions:
        stopped = interrupt_run(resumed, step, **changes)
        assert f"after step {step} of {STEPS}; saved in" in str(stopped)
        assert saved_steps(resumed)[-1] == step
    result = run(resumed, **changes)
    assert result.params_sha256 == expected.params_sha256
    assert without_times(result) == without_times(expected)
    assert metrics_rows(resumed) == metrics_rows(tmp_path / "straight")
    assert len(result.epoch_seconds) == 2
    assert len(saved_steps(resumed)) == MAX_TO_KEEP


def test_run_stopped_during_an_evaluation_resumes_exactly(
    straight_run: tuple[Path, Result], tmp_path: Path
) -> None:
    # The steps of the first epoch are taken, but its row is not written: it is evaluated again.
    evaluate = DeviceFeed.evaluate

    def interrupt(self: DeviceFeed, *arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceFeed, "evaluate", interrupt)
        with pytest.raises(Stopped, match="after step 5 of 10; saved in"):
            run(tmp_path)
    assert saved_steps(tmp_path) == [5]
    assert all(row["split"] == "train" for row in metrics_rows(tmp_path))
    assert run(tmp_path).params_sha256 == straight_run[1].params_sha256
    assert metrics_rows(tmp_path) == metrics_rows(straight_run[0])


def test_run_stopped_after_an_evaluation_resumes_exactly(
    straight_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            TrainLogger, "log_epoch_accuracy", lambda *_: signal.raise_signal(signal.SIGTERM)
        )
        with pytest.raises(Stopped) as stopped:
            run(tmp_path)
    assert stopped.value.signal_number == signal.SIGTERM
    assert run(tmp_path).params_sha256 == straight_run[1].params_sha256
    assert metrics_rows(tmp_path) == metrics_rows(straight_run[0])


def test_stop_request_after_the_last_step_leaves_a_complete_result(
    straight_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            TrainLogger, "log_test_accuracy", lambda *_: signal.raise_signal(signal.SIGINT)
        )
        with pytest.raises(Stopped, match="after the last step; the run is finished"):
            run(tmp_path)
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["params_sha256"] == straight_run[1].params_sha256


def test_stopped_run_without_workdir_tells_that_nothing_is_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        TrainLogger, "log_progress", lambda *_, **__: signal.raise_signal(signal.SIGINT)
    )
    with pytest.raises(Stopped, match="after step 1 of 10; nothing is saved without a"):
        run(None)


def test_seconds_are_summed_over_all_parts_of_a_run(tmp_path: Path) -> None:
    def make_clock() -> Callable[[], float]:
        now = iter(range(100_000))
        return lambda: float(next(now))

    config = small_config(num_epochs=1)
    straight = experiment.run(config, str(tmp_path / "a"), out=io.StringIO(), clock=make_clock())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TrainLogger, "log_epoch_accuracy", lambda *_: signal.raise_signal(signal.SIGTERM)
        )
        with pytest.raises(Stopped):
            experiment.run(config, str(tmp_path / "b"), out=io.StringIO(), clock=make_clock())
    result = experiment.run(config, str(tmp_path / "b"), out=io.StringIO(), clock=make_clock())
    assert result.epoch_seconds == straight.epoch_seconds  # The first part took all steps.
    assert result.compile_seconds == 2 * straight.compile_seconds
    assert result.total_seconds > straight.total_seconds


def test_finished_run_is_evaluated_again_and_not_changed(
    straight_run: tuple[Path, Result], finished_workdir: Path
) -> None:
    before = json_contents(finished_workdir)
    out = io.StringIO()
    result = experiment.run(small_config(), str(finished_workdir), out=out, err=io.StringIO())
    accuracy = f"Test accuracy: {100 * straight_run[1].test_accuracy:.2f}%"
    assert out.getvalue().splitlines() == ["This run is finished after 2 epochs.", accuracy]
    assert result.to_json() == straight_run[1].to_json()
    for array, expected in zip(
        jax.tree.leaves(result.params), jax.tree.leaves(straight_run[1].params), strict=True
    ):
        np.testing.assert_array_equal(array, expected)
    assert json_contents(finished_workdir) == before


@pytest.mark.parametrize("content", [None, "{", "{}", '{"steps": 10}'])
def test_missing_or_damaged_result_of_a_finished_run_is_restored(
    straight_run: tuple[Path, Result], finished_workdir: Path, content: str | None
) -> None:
    if content is None:  # The process died between the last checkpoint and this file.
        (finished_workdir / "result.json").unlink()
    else:
        (finished_workdir / "result.json").write_text(content)
    assert without_times(run(finished_workdir)) == without_times(straight_run[1])
    assert metrics_rows(finished_workdir) == metrics_rows(straight_run[0])


def test_finished_run_with_more_epochs_equals_a_longer_straight_run(
    finished_workdir: Path, tmp_path: Path
) -> None:
    expected = run(tmp_path / "three", num_epochs=3)
    assert run(finished_workdir, num_epochs=3).params_sha256 == expected.params_sha256
    assert metrics_rows(finished_workdir) == metrics_rows(
        tmp_path / "three"
    )  # With a single test row, the last.
    assert json.loads((finished_workdir / "config.json").read_text())["config"]["num_epochs"] == 3


def test_more_epochs_are_refused_if_the_schedule_depends_on_them(tmp_path: Path) -> None:
    interrupt_run(tmp_path, 3, **ADAMW)
    message = "num_epochs was 2 and is 3, which schedule=one_cycle depends on"
    with pytest.raises(UserError, match=message):
        run(tmp_path, num_epochs=3, **ADAMW)


def test_run_with_changed_config_is_refused_with_all_changes(finished_workdir: Path) -> None:
    before = file_contents(finished_workdir)
    with pytest.raises(UserError) as error:
        run(finished_workdir, seed=2, learning_rate=0.2, checkpoint_every_epochs=2, num_epochs=1)
    for change in (
        "seed was 1 and is 2",
        "learning_rate was 0.1 and is 0.2",
        "checkpoint_every_epochs was 1 and is 2",
        "num_epochs was 2 and is 1",
    ):
        assert change in str(error.value)
    message = r"model\.activation was relu and is sigmoid\. The values must be the same"
    with pytest.raises(UserError, match=message):
        run(finished_workdir, **{"model.activation": "sigmoid"})
    after = file_contents(finished_workdir)
    assert after == before


def test_data_folders_may_change(finished_workdir: Path) -> None:
    run(finished_workdir, **{"dataset.data_dir": "/elsewhere", "dataset.manual_dir": "/there"})


def test_checkpoint_of_another_model_is_refused_with_the_array_that_differs(
    finished_workdir: Path, tmp_path: Path
) -> None:
    # The folder `checkpoints` has been moved into another workdir.
    (tmp_path / "w").mkdir()
    (finished_workdir / "checkpoints").rename(tmp_path / "w" / "checkpoints")
    message = (
        r"model\.features was 8,16 and is 8,4; "
        r"the array params\.conv_2\.bias is float32\[16\] in the checkpoint and must be "
        r"float32\[4\]"
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path / "w", **{"model.features": (8, 4)})


def test_damaged_newest_checkpoint_costs_only_its_steps(
    straight_run: tuple[Path, Result], finished_workdir: Path
) -> None:
    (finished_workdir / "checkpoints" / "10" / "metadata" / "metadata").write_text("{")
    err = io.StringIO()
    assert run(finished_workdir, err=err).params_sha256 == straight_run[1].params_sha256
    (warning,) = err.getvalue().splitlines()
    assert warning.startswith("warning: ")
    assert "checkpoint 10 is damaged" in warning
    assert metrics_rows(finished_workdir) == metrics_rows(straight_run[0])
    assert saved_steps(finished_workdir) == [5, 10]


def test_change_of_devices_gives_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt_run(tmp_path, 7)
    err = io.StringIO()
    run(tmp_path, err=err)
    assert err.getvalue() == ""
    monkeypatch.setattr(metadata, "device_names", lambda: ["gpu:0 H100"])
    shutil.rmtree(tmp_path / "checkpoints" / "10")
    run(tmp_path, err=err)
    (line,) = err.getvalue().splitlines()
    assert re.fullmatch(
        r"warning: this run was saved with jax .*, cpu:0 cpu and resumes with jax .*, "
        r"gpu:0 H100: its bits may differ",
        line,
    )


@pytest.mark.parametrize(("jax_version", "matters"), [("0.10.2", True), ("0.12.0", False)])
def test_other_number_of_cores_gives_a_warning_where_it_changes_bits(
    jax_version: str, matters: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "versions", lambda: {"jax": jax_version})
    descriptions = set()
    for cores in (1, 2):
        monkeypatch.setattr(metadata, "num_cores", lambda cores=cores: cores)
        descriptions.add(metadata.describe_numerics(metadata.environment()))
    assert len(descriptions) == 1 + matters


def test_lost_metrics_rows_give_a_warning(
    straight_run: tuple[Path, Result], tmp_path: Path
) -> None:
    interrupt_run(tmp_path, 7)
    (tmp_path / "metrics.jsonl").unlink()
    err = io.StringIO()
    assert run(tmp_path, err=err).params_sha256 == straight_run[1].params_sha256
    assert "has lost rows: the run resumes without them" in err.getvalue()


def test_run_without_a_checkpoint_starts_again(
    straight_run: tuple[Path, Result], finished_workdir: Path
) -> None:
    # As after SIGKILL in the first epoch: some rows, no checkpoint, no result.
    shutil.rmtree(finished_workdir / "checkpoints")
    (finished_workdir / "result.json").unlink()
    with pytest.raises(UserError, match="seed was 1 and is 2"):
        run(finished_workdir, seed=2)
    assert run(finished_workdir).params_sha256 == straight_run[1].params_sha256
    assert metrics_rows(finished_workdir) == metrics_rows(straight_run[0])


@pytest.mark.parametrize("deleted", [[], ["metrics.jsonl"], ["config.json"]])
def test_result_without_checkpoints_is_not_overwritten(
    finished_workdir: Path, deleted: list[str]
) -> None:
    shutil.rmtree(finished_workdir / "checkpoints")
    for name in deleted:
        (finished_workdir / name).unlink()
    before = (finished_workdir / "result.json").read_bytes()
    with pytest.raises(UserError, match="holds a run without a checkpoint to resume from"):
        run(finished_workdir)
    assert (finished_workdir / "result.json").read_bytes() == before


def test_metrics_of_another_program_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("precious")
    with pytest.raises(UserError, match="holds a run without a checkpoint to resume from"):
        run(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "precious"


def test_checkpoint_every_epochs_is_respected(tmp_path: Path) -> None:
    run(tmp_path, num_epochs=5, checkpoint_every_epochs=2)
    assert saved_steps(tmp_path) == [10, 20, 25]  # After epochs 2 and 4, and at the end.


def test_evaluate_every_epochs_is_respected(
    straight_run: tuple[Path, Result], tmp_path: Path
) -> None:
    result = run(tmp_path, num_epochs=3, evaluate_every_epochs=2)
    rows = metrics_rows(tmp_path)
    evaluated = [row for row in rows if row["split"] == "train_eval"]
    assert [row["epoch"] for row in evaluated] == [2, 3]
    assert evaluated[-1]["accuracy"] == result.train_accuracy
    # The first two epochs are those of a run that is evaluated after each, but for that row.
    every = [row for row in metrics_rows(straight_run[0]) if row["split"] != "test"]
    every.remove(next(row for row in every if row["split"] == "train_eval"))
    assert rows[: len(every)] == every
    assert saved_steps(tmp_path) == [5, 10, 15]


def test_nan_loss_stops_the_run_and_keeps_the_last_finite_checkpoint(
    straight_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_programs = compile.compile_programs

    def compile_diverging(*arguments: Any) -> Programs:
        compiled = compile_programs(*arguments)

        def train_steps(*arguments: Any) -> Any:
            state, total, first_batch = compiled.train_steps(*arguments)
            if state.step > 5:  # The loss of a step does not show the parameters after it.
                state = state.replace(params=jax.tree.map(lambda p: p * jnp.nan, state.params))
            return state, total, first_batch

        return dataclasses.replace(compiled, train_steps=train_steps)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(session, "compile_programs", compile_diverging)
        message = r"nan between step \d and step \d: .* The checkpoint of step 5 is kept\."
        with pytest.raises(UserError, match=message):
            run(tmp_path)
    assert saved_steps(tmp_path) == [5]
    assert run(tmp_path).params_sha256 == straight_run[1].params_sha256


def test_parameters_with_a_nonfinite_loss_are_not_saved(tmp_path: Path) -> None:
    # The single step makes the parameters too large, but its own loss is finite.
    changes = {"num_epochs": 1, "learning_rate": 1e38, "dataset.train_split": "train[:16]"}
    with pytest.raises(UserError, match=r"between step 0 and step 1: .*another --w"):
        run(tmp_path, **changes)
    assert saved_steps(tmp_path) == []
