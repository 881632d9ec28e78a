"""The film of a run: the steps of its frames, their bits, and frames that cannot be used."""

import io
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_jax.checkpoint.film import Frame, read_film, write_frame
from cnn_jax.checkpoint.restore import checkpoint_at
from cnn_jax.config import schema
from cnn_jax.errors import UserError
from cnn_jax.reporting.result import Result
from cnn_jax.training import schedule, stream_feed
from cnn_jax.training.schedule import Evaluate, Save, Snapshot, TrainBatches, film_steps
from tests.support.once import make_once
from tests.support.small import run, small_config
from tests.training.test_resume import STEPS, interrupt_run, metrics_rows

# Of the 10 steps, six: 0; 10 ** (1/5) = 1.6, so 2; 2 * (10/2) ** (1/4) = 2.99, so 3;
# 3 * (10/3) ** (1/3) = 4.5, so 4; 4 * (10/4) ** (1/2) = 6.3, so 6; 10. Step 3 lies between two rows
# of metrics, and 6 is a step after the end of an epoch.
FILM = {"film_frames": 6}
FILM_STEPS = [0, 2, 3, 4, 6, 10]


def film_of(workdir: Path) -> dict[str, bytes]:
    """Returns the content of every file of a film."""
    return {path.name: path.read_bytes() for path in (workdir / "film").iterdir()}


def names(steps: Sequence[int]) -> set[str]:
    return {f"{step}.frame" for step in steps}


@pytest.fixture(scope="session")
def filmed_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Returns workdir and result of an uninterrupted run with a film."""
    return make_once(tmp_path_factory, "filmed_run", lambda folder: run(folder, **FILM))


# --- steps and order


@pytest.mark.parametrize(
    ("num_steps", "num_frames", "steps"),
    [
        (1000, 0, []),
        (1000, 2, [0, 1000]),
        (1000, 4, [0, 10, 100, 1000]),
        (10, 6, FILM_STEPS),
        (4, 5, [0, 1, 2, 3, 4]),
        (4, 1000, [0, 1, 2, 3, 4]),
        (1, 2, [0, 1]),
    ],
)
def test_steps_of_a_film_are_spaced_by_their_logarithm(
    num_steps: int, num_frames: int, steps: list[int]
) -> None:
    assert film_steps(num_steps, num_frames) == steps


@given(st.integers(1, 2**31 - 1) | st.integers(1, 1100), st.integers(2, 1000))
def test_film_has_distinct_steps_from_the_first_to_the_last(
    num_steps: int, num_frames: int
) -> None:
    steps = film_steps(num_steps, num_frames)
    assert len(steps) == min(num_frames, num_steps + 1)
    assert (steps[0], steps[-1]) == (0, num_steps)
    assert steps == sorted(set(steps))


def test_stretches_end_at_frames_and_rows_stay_where_they_are() -> None:
    # Rows of metrics complete at batches 2, 4 and 5 of each epoch. After step 3, which is in the
    # film, its frame comes first, since the run may have been stopped before it.
    config = small_config(**FILM)
    info = schema.check(config)
    second: list[schedule.Action] = [TrainBatches(1, 3, 4, True), Snapshot()]
    second += [TrainBatches(1, 4, 5, True), Evaluate(1, "train_eval", 0, 70), Save(1)]
    second += [TrainBatches(2, 0, 1, False), Snapshot(), TrainBatches(2, 1, 2, True)]
    second += [TrainBatches(2, 2, 4, True), TrainBatches(2, 4, 5, True), Snapshot()]
    second += [Evaluate(2, "train_eval", 0, 70), Save(2), Evaluate(2, "test", 70, 100)]
    first = [Snapshot(), TrainBatches(1, 0, 2, True), Snapshot(), TrainBatches(1, 2, 3, False)]
    assert list(schedule.actions(config, info, 3)) == [Snapshot(), *second]
    assert list(schedule.actions(config, info, 0)) == [*first, Snapshot(), *second]


# --- the frames of a run


def test_frames_are_the_parameters_of_their_steps(tmp_path: Path) -> None:
    result = run(tmp_path, film_frames=STEPS + 1)
    assert film_of(tmp_path).keys() == names(range(STEPS + 1))
    film = read_film(tmp_path, STEPS, result.params, None)
    assert [frame.step for frame in film] == list(range(STEPS + 1))
    for step in (5, 10):
        arrays = checkpoint_at(tmp_path / "checkpoints", step).arrays
        assert len(film[step].params) == 6
        for name, array in film[step].params.items():
            np.testing.assert_array_equal(array, arrays[f"params.{name}"], strict=True)


def test_training_does_not_depend_on_the_film(
    straight_run: tuple[Path, Result], filmed_run: tuple[Path, Result], tmp_path: Path
) -> None:
    workdir, result = filmed_run
    assert film_of(workdir).keys() == names(FILM_STEPS)
    assert result.params_sha256 == straight_run[1].params_sha256
    assert metrics_rows(workdir) == metrics_rows(straight_run[0])
    with_film, without, no_workdir = io.StringIO(), io.StringIO(), io.StringIO()
    run(tmp_path / "with", out=with_film, **FILM)
    run(tmp_path / "without", out=without)
    assert not (tmp_path / "without" / "film").exists()
    run(None, out=no_workdir, **FILM)
    console = [re.sub(r"\d+\.\d+ (s|min)", "", out.getvalue()) for out in (with_film, without)]
    assert console[0] == console[1]
    assert "Batch 002/005" in console[0]


@pytest.mark.parametrize(
    "interruptions",
    [
        (3, 5, 6),
        pytest.param(range(1, STEPS + 1), marks=pytest.mark.durability),
    ],
    ids=["three", "after every step"],
)
def test_resumed_run_has_the_film_of_a_straight_run(
    interruptions: Sequence[int], filmed_run: tuple[Path, Result], tmp_path: Path
) -> None:
    for step in interruptions:
        interrupt_run(tmp_path, step, **FILM)
    assert run(tmp_path, **FILM).params_sha256 == filmed_run[1].params_sha256
    assert film_of(tmp_path) == film_of(filmed_run[0])
    assert metrics_rows(tmp_path) == metrics_rows(filmed_run[0])


@pytest.mark.parametrize("kept", [5, None])
def test_frames_after_the_resumed_step_are_written_again(
    kept: int | None, filmed_run: tuple[Path, Result], tmp_path: Path
) -> None:
    # As after SIGKILL late in the second epoch, or in the first: before the newest checkpoint.
    workdir = Path(shutil.copytree(filmed_run[0], tmp_path / "w"))
    (workdir / "result.json").unlink()
    for folder in (workdir / "checkpoints").iterdir():
        if folder.name != str(kept):
            shutil.rmtree(folder)
    for name in ("6.frame", "9.frame", "2.frame.123.tmp"):
        (workdir / "film" / name).write_bytes(b"of another life")
    run(workdir, **FILM)
    assert film_of(workdir) == film_of(filmed_run[0])


def test_longer_run_keeps_the_frames_before_it_and_adds_its_own(tmp_path: Path) -> None:
    # Four of 10 steps: 0; 10 ** (1/3) = 2.2; 2 * (10/2) ** (1/2) = 4.5; 10. Of 15 steps: 0; 2.5;
    # 2 * (15/2) ** (1/2) = 5.5; 15.
    assert film_steps(10, 4) == [0, 2, 4, 10]
    assert film_steps(15, 4) == [0, 2, 5, 15]
    run(tmp_path / "longer", film_frames=4)
    run(tmp_path / "longer", film_frames=4, num_epochs=3)
    run(tmp_path / "straight", film_frames=4, num_epochs=3)
    film, straight = film_of(tmp_path / "longer"), film_of(tmp_path / "straight")
    assert film.keys() == names([0, 2, 4, 10, 15])
    assert film.items() >= {name: straight[name] for name in names([0, 2, 15])}.items()


def test_finished_run_keeps_its_film(filmed_run: tuple[Path, Result], tmp_path: Path) -> None:
    workdir = Path(shutil.copytree(filmed_run[0], tmp_path / "w"))
    run(workdir, **FILM)
    assert film_of(workdir) == film_of(filmed_run[0])
    with pytest.raises(UserError, match="film_frames was 6 and is 5"):
        run(workdir, film_frames=5)


def test_streamed_run_has_the_same_film(
    filmed_run: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_feed, "_num_workers", lambda *_: 0)
    run(tmp_path, **FILM, **{"dataset.feed": "stream"})
    assert film_of(tmp_path) == film_of(filmed_run[0])


def test_film_of_one_of_several_models(tmp_path: Path) -> None:
    result = run(tmp_path, num_models=2, num_epochs=1, film_frames=3)
    models = [jax.tree.map(lambda array, k=k: array[k], result.params) for k in range(2)]
    films = [read_film(tmp_path, 5, model, k) for k, model in enumerate(models)]
    for model, film in zip(models, films, strict=True):
        assert [frame.step for frame in film] == [0, 2, 5]
        np.testing.assert_array_equal(
            film[-1].params["conv_2.kernel"], model["conv_2"]["kernel"], strict=True
        )
    kernels = [film[0].params["conv_1.kernel"] for film in films]
    assert np.all(kernels[0] != kernels[1])
    with pytest.raises(UserError, match="not a frame of this run: index 2 is out of bounds"):
        read_film(tmp_path, 5, models[0], 2)


# --- reading


PARAMS: dict[str, Any] = {
    "linear_1": {
        "kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.zeros(3, np.float32),
    }
}


def test_frames_after_the_step_of_the_model_are_left_out(tmp_path: Path) -> None:
    assert read_film(tmp_path, 9, PARAMS, None) == []
    for step in (10, 0, 9):
        write_frame(tmp_path, step, PARAMS)
    film = read_film(tmp_path, 9, PARAMS, None)
    assert [frame.step for frame in film] == [0, 9]
    assert isinstance(film[0], Frame)


def test_array_in_another_memory_order_keeps_its_values(tmp_path: Path) -> None:
    kernel = np.asfortranarray(PARAMS["linear_1"]["kernel"])
    write_frame(tmp_path, 0, {"linear_1": PARAMS["linear_1"] | {"kernel": kernel}})
    (frame,) = read_film(tmp_path, 0, PARAMS, None)
    np.testing.assert_array_equal(frame.params["linear_1.kernel"], kernel)


def test_frame_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    write_frame(tmp_path, 7, PARAMS)
    path = tmp_path / "film" / "7.frame"
    other = {"linear_1": {**PARAMS["linear_1"], "bias": np.zeros(4, np.float32)}}
    with pytest.raises(UserError, match=r"7\.frame is not a frame of this model: linear_1\.bias"):
        read_film(tmp_path, 7, other, None)
    content = bytearray(path.read_bytes())
    for position in (0, 64, len(content) - 1):
        damaged = content.copy()
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"7\.frame is damaged or cannot be read\. It must"):
            read_film(tmp_path, 7, PARAMS, None)
    path.write_bytes(content[:100])
    with pytest.raises(UserError, match="is damaged"):
        read_film(tmp_path, 7, PARAMS, None)


def test_film_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "film").write_text("a file in place of the folder")
    with pytest.raises(UserError, match=r"^cannot write .*0\.frame \(.*: --workdir must be"):
        run(tmp_path, **FILM)
