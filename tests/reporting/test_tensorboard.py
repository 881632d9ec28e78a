"""What TensorBoard itself reads from the files of a run."""

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


def read(folder: Path) -> Any:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def rounded(value: float) -> float:
    """As TensorBoard's files have it."""
    return float(np.float32(value))


def points(events: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_run_leaves_its_curves_histograms_confusion_matrix_and_config(
    straight: tuple[Path, Result],
) -> None:
    workdir, result = straight
    events = read(workdir / "tensorboard")
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for split in ("train", "train_eval", "test"):
        for value in ("loss", "accuracy"):
            expected = [(r["step"], rounded(r[value])) for r in rows if r["split"] == split]
            assert points(events, f"{value}/{split}") == expected
    # Rows after steps 2, 4 and 5 of each epoch of 5.
    assert points(events, "learning_rate") == [(n, rounded(0.1)) for n in (2, 4, 5, 7, 9, 10)]
    assert all(0 < seconds < 60 for _, seconds in points(events, "seconds_per_step"))
    last = events.Histograms("linear_1/kernel")[-1]
    kernel = result.params["linear_1"]["kernel"]
    assert (last.step, last.histogram_value.num) == (10, kernel.size)
    assert last.histogram_value.max == pytest.approx(kernel.max())
    (picture,) = events.Images("confusion_matrix")
    with Image.open(io.BytesIO(picture.encoded_image_string)) as image:
        assert image.size == (picture.width, picture.height)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"learning_rate": 0.1' in text


def test_what_a_run_does_anew_after_a_cut_hides_what_was_there(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3):
        first.scalars(step, {"loss": step})
    first.close()
    # Step 2 was saved, step 3 was not.
    second = TensorBoard(tmp_path, 2)
    second.scalars(3, {"loss": 30})
    second.close()
    assert points(read(tmp_path), "loss") == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_the_rate_is_that_of_the_last_step(tmp_path: Path) -> None:
    # Half a cosine over 5 steps; the row after step 5 shows the rate of the one numbered 4.
    run(tmp_path, num_epochs=1, schedule="cosine", learning_rate=0.2)
    rates = dict(points(read(tmp_path / "tensorboard"), "learning_rate"))
    assert rates[5] == pytest.approx(0.2 * (1 + np.cos(np.pi * 4 / 5)) / 2, rel=1e-5)


def test_a_run_does_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "installed", lambda: False)
    run(tmp_path, num_epochs=1)
    assert not (tmp_path / "tensorboard").exists()
    assert (tmp_path / "pictures" / "learning_curves.png").exists()


def test_it_changes_no_bit(straight: tuple[Path, Result]) -> None:
    assert run(None).params_sha256 == straight[1].params_sha256


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(UserError, match="tensorboard cannot be written"):
        TensorBoard(tmp_path / "tensorboard", 0)


def test_a_damaged_extra_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
    with pytest.raises(UserError, match="tensorboardX is installed and cannot be imported"):
        TensorBoard(tmp_path, 0)


def test_a_profile_of_the_second_call_is_written(tmp_path: Path) -> None:
    out = io.StringIO()
    experiment.run(small_config(), str(tmp_path), profile=True, out=out, err=io.StringIO())
    assert "Profile of steps 2 to 2: " in out.getvalue()
    (trace,) = tmp_path.glob("tensorboard/plugins/profile/*/perfetto_trace.json.gz")
    assert b"train_step" in gzip.decompress(trace.read_bytes())
    again = io.StringIO()
    experiment.run(small_config(), str(tmp_path), profile=True, out=again, err=io.StringIO())
    assert "No profile: nothing is left to train" in again.getvalue()
