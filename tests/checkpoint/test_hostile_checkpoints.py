"""Checkpoints and results that somebody has changed, with and without a right digest."""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_jax import experiment
from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.commands import evaluate as evaluate_mode
from cnn_jax.errors import UserError
from tests.support.hostile import JSON, hostile, spoilt
from tests.support.small import small_config

pytestmark = pytest.mark.durability


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("finished")
    experiment.run(small_config(num_epochs=1), str(workdir), out=io.StringIO())
    return workdir


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn takes longer than all else, and does not depend on what a record says."""
    monkeypatch.setattr(evaluate_mode, "_draw", lambda *_: [])
    monkeypatch.setattr(experiment, "_draw", lambda *_: None)


def go_on(workdir: Path) -> None:
    experiment.run(small_config(num_epochs=1), str(workdir), out=io.StringIO(), err=io.StringIO())


def evaluate(workdir: Path) -> None:
    evaluate_mode.evaluate(str(workdir), out=io.StringIO(), err=io.StringIO())


def test_a_checkpoint_can_be_forged(finished: Path, tmp_path: Path) -> None:
    # Or the tests below would try nothing but damaged ones.
    workdir = Path(shutil.copytree(finished, tmp_path / "w"))
    forge(workdir, lambda record: record["progress"].update(eval_seconds=7))
    evaluate(workdir)


def forge(workdir: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the record of the newest checkpoint, and makes its digest right."""
    with Checkpoints(workdir, read_only=True) as checkpoints:
        checkpoint = checkpoints.newest(lambda _: None)
    assert checkpoint is not None
    path = workdir / "checkpoints" / str(checkpoint.step) / "record" / "metadata"
    record = json.loads(path.read_text())
    del record["sha256"]
    change(record)
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(checkpoint.arrays):
        digest.update(checkpoint.arrays[name].tobytes())
    path.write_text(json.dumps(record | {"sha256": digest.hexdigest()}))


# Each example restores from a disk, twice.
@settings(hostile, max_examples=25)
@given(content=st.data())
def test_checkpoints_records(finished: Path, tmp_path: Path, content: Any) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w", dirs_exist_ok=True))
    path = workdir / "checkpoints" / "5" / "record" / "metadata"
    whole = path.read_bytes()
    path.write_bytes(
        content.draw(spoilt(whole) | JSON.map(lambda value: json.dumps(value).encode()))
    )
    for use in (go_on, evaluate):
        with pytest.raises(UserError, match="no checkpoint that is whole"):
            use(workdir)


PLACES = [
    "config",
    "progress",
    "format",
    "arrays",
    *(
        "config.model",
        "config.dataset",
        "config.model.features",
        "config.seed",
        "config.num_epochs",
    ),
    *("progress.metrics_size", "progress.epoch_seconds", "progress.total_seconds"),
]


@settings(hostile, max_examples=40)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_checkpoints_records_with_a_right_digest(
    finished: Path, tmp_path: Path, place: str, value: Any
) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w", dirs_exist_ok=True))
    (workdir / "result.json").unlink()
    *groups, key = place.split(".")

    def change(record: dict[str, Any]) -> None:
        for group in groups:
            record = record[group]
        record[key] = value

    forge(workdir, change)
    with contextlib.suppress(UserError):
        evaluate(workdir)
    if place.startswith("progress.") and is_progress(key, value):
        go_on(workdir)
    else:
        with pytest.raises(UserError):
            go_on(workdir)


def is_progress(key: str, value: Any) -> bool:
    """Whether a value may stand in a record: seconds or bytes, of which there are not too many."""
    if key == "epoch_seconds":
        return isinstance(value, list) and all(is_progress("seconds", v) for v in value)
    kinds = (int,) if key == "metrics_size" else (int, float)
    return type(value) in kinds and 0 <= value < 2**53


@settings(hostile, max_examples=15)
@given(content=st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_results(finished: Path, tmp_path: Path, content: bytes) -> None:
    workdir = Path(shutil.copytree(finished, tmp_path / "w", dirs_exist_ok=True))
    (workdir / "result.json").write_bytes(content)
    go_on(workdir)
    assert json.loads((workdir / "result.json").read_text())["steps"] == 5


def test_nothing_that_is_read_is_a_pickle(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle can run code")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    for use in (go_on, evaluate):
        use(finished)
    # A stream's workers are handed one in a file that only this user can read, as Python itself
    # would hand it to them through a pipe.
    paths = Path(experiment.__file__).parent.rglob("*.py")
    sources = [path.read_text() for path in paths if path.name != "prefetch.py"]
    dangerous = ("import pickle", "from pickle", "np.load(", "eval(")
    assert not any(words in text for text in sources for words in dangerous)
