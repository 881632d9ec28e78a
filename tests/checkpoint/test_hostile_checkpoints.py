"""Checkpoints and results that were damaged or edited, and no pickle."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cnn_jax
from cnn_jax.commands import evaluate
from cnn_jax.errors import UserError
from tests.support.hostile import JSON, damaged_bytes, fraction_of_examples, hostile
from tests.support.small import run


@pytest.fixture(scope="module")
def finished_workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a finished run of one epoch, 5 steps."""
    workdir = tmp_path_factory.mktemp("finished")
    run(workdir, num_epochs=1)
    return workdir


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the figures, which take longer than the rest and do not depend on the metadata."""
    monkeypatch.setattr(evaluate, "_write_figures", lambda *_: [])


def resume_run(workdir: Path) -> None:
    run(workdir, num_epochs=1)


def evaluate_run(workdir: Path) -> None:
    evaluate.evaluate(str(workdir), out=io.StringIO(), err=io.StringIO())


# Each example restores from the disk twice.
@settings(hostile, max_examples=fraction_of_examples(12))
@given(data=st.data())
def test_damaged_metadata_are_detected(finished_workdir: Path, tmp_path: Path, data: Any) -> None:
    workdir = Path(shutil.copytree(finished_workdir, tmp_path / "w", dirs_exist_ok=True))
    path = workdir / "checkpoints" / "5" / "metadata" / "metadata"
    intact = path.read_bytes()
    content = data.draw(damaged_bytes(intact) | JSON.map(lambda value: json.dumps(value).encode()))
    assume(content != intact)
    path.write_bytes(content)
    for use in (resume_run, evaluate_run):
        with pytest.raises(UserError, match="no intact checkpoint: checkpoint 5 is damaged"):
            use(workdir)


@settings(hostile, max_examples=fraction_of_examples(20))
@given(content=st.binary(max_size=50) | JSON.map(lambda value: json.dumps(value).encode()))
def test_damaged_result_is_written_again(
    finished_workdir: Path, tmp_path: Path, content: bytes
) -> None:
    workdir = Path(shutil.copytree(finished_workdir, tmp_path / "w", dirs_exist_ok=True))
    (workdir / "result.json").write_bytes(content)
    resume_run(workdir)
    assert json.loads((workdir / "result.json").read_text())["steps"] == 5


def test_no_pickle_is_read(finished_workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle can run code")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    for use in (resume_run, evaluate_run):
        use(finished_workdir)
    # A stream's workers read a pickle from a file that only this user can read, just as Python
    # itself would send it to them through a pipe.
    paths = Path(cnn_jax.__file__).parent.rglob("*.py")
    sources = [path.read_text() for path in paths if path.name != "worker_processes.py"]
    dangerous = ("import pickle", "from pickle", "np.load(", "eval(")
    assert not any(call in source for source in sources for call in dangerous)
