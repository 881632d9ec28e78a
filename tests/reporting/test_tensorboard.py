"""TensorBoard's files, read by TensorBoard itself."""

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn_jax import experiment
from cnn_jax.errors import UserError
from cnn_jax.reporting import tensorboard
from cnn_jax.reporting.result import Result
from cnn_jax.reporting.tensorboard import TensorBoard
from tests.support.small import run, small_config


def read_events(folder: Path) -> Any:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def to_float32(value: float) -> float:
    """Rounds a number as TensorBoard's files do."""
    return float(np.float32(value))


def scalars(events: Any, name: str) -> list[tuple[int, float]]:
    """Returns (step, value) of each point of a curve."""
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_run_writes_curves_histograms_confusion_matrix_and_config(
    straight_run: tuple[Path, Result],
) -> None:
    workdir, result = straight_run
    events = read_events(workdir / "tensorboard")
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for split in ("train", "train_eval", "test"):
        for value in ("loss", "accuracy"):
            expected = [(r["step"], to_float32(r[value])) for r in rows if r["split"] == split]
            assert scalars(events, f"{value}/{split}") == expected
    # Rows after steps 2, 4 and 5 of each epoch of 5.
    assert scalars(events, "learning_rate") == [(n, to_float32(0.1)) for n in (2, 4, 5, 7, 9, 10)]
    assert all(0 < seconds < 60 for _, seconds in scalars(events, "seconds_per_step"))
    last = events.Histograms("linear_1/kernel")[-1]
    kernel = result.params["linear_1"]["kernel"]
    assert (last.step, last.histogram_value.num) == (10, kernel.size)
    assert last.histogram_value.max == pytest.approx(kernel.max())
    (figure,) = events.Images("confusion_matrix")
    with Image.open(io.BytesIO(figure.encoded_image_string)) as image:
        assert image.size == (figure.width, figure.height)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"learning_rate": 0.1' in text


def test_steps_repeated_after_resuming_replace_the_earlier_ones(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3):
        first.add_scalars(step, {"loss": step})
    first.close()
    # The run was interrupted after step 3, and resumes from the checkpoint of step 2.
    second = TensorBoard(tmp_path, 2)
    second.add_scalars(3, {"loss": 30})
    second.close()
    assert scalars(read_events(tmp_path), "loss") == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_learning_rate_is_that_of_the_last_step(tmp_path: Path) -> None:
    # Half a cosine over steps 0 to 4; the row after 5 steps shows the rate of step 4.
    run(tmp_path, num_epochs=1, schedule="cosine", learning_rate=0.2)
    rates = dict(scalars(read_events(tmp_path / "tensorboard"), "learning_rate"))
    assert rates[5] == pytest.approx(0.2 * (1 + np.cos(np.pi * 4 / 5)) / 2, rel=1e-5)


def test_run_works_without_tensorboardx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "is_installed", lambda: False)
    run(tmp_path, num_epochs=1, figures=True)
    assert not (tmp_path / "tensorboard").exists()
    assert (tmp_path / "pictures" / "learning_curves.png").exists()


def test_tensorboard_changes_no_bit_of_the_parameters(straight_run: tuple[Path, Result]) -> None:
    assert run(None).params_sha256 == straight_run[1].params_sha256


def test_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(
        UserError, match=r"^cannot write .*/tensorboard \(File exists\): --workdir must be a"
    ):
        TensorBoard(tmp_path / "tensorboard", 0)


def test_damaged_tensorboardx_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
    message = (
        r"tensorboardX is installed but cannot be imported .*: it must be a working installation"
    )
    with pytest.raises(UserError, match=message):
        TensorBoard(tmp_path, 0)


def test_profile_of_the_second_call_is_written(tmp_path: Path) -> None:
    out = io.StringIO()
    experiment.run(small_config(), str(tmp_path), profile=True, out=out, err=io.StringIO())
    assert "Profile of steps 2 to 2: " in out.getvalue()
    (trace,) = tmp_path.glob("tensorboard/plugins/profile/*/perfetto_trace.json.gz")
    assert b"train_step" in gzip.decompress(trace.read_bytes())
    again = io.StringIO()
    experiment.run(small_config(), str(tmp_path), profile=True, out=again, err=io.StringIO())
    assert "No profile: nothing is left to train" in again.getvalue()
