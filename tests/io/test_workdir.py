"""Tests of atomic writes to a workdir, and of its lock, which ends with its process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_jax.errors import UserError
from cnn_jax.io.workdir import Workdir, read_metrics


def test_missing_folder_is_created(tmp_path: Path) -> None:
    with Workdir(str(tmp_path / "deep" / "w")) as workdir:
        workdir.write_json("result.json", {"steps": 3})
    assert json.loads((tmp_path / "deep" / "w" / "result.json").read_text()) == {"steps": 3}
    assert sorted(p.name for p in (tmp_path / "deep" / "w").iterdir()) == [".lock", "result.json"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workdir(str(tmp_path)) as workdir:
        workdir.write_json("result.json", {"steps": 3})

        def raise_disk_full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", raise_disk_full)
        with pytest.raises(UserError, match=r"^cannot write .*result\.json \(No space left"):
            workdir.write_json("result.json", {"steps": 4})
        assert workdir.read_json("result.json") == {"steps": 3}


def test_metrics_are_truncated_to_a_previous_size(tmp_path: Path) -> None:
    with Workdir(str(tmp_path)) as workdir:
        assert workdir.metrics_size() == 0
        workdir.append_metrics({"step": 1})
        size = workdir.metrics_size()
        assert size == len('{"step": 1}\n')
        workdir.append_metrics({"step": 2})
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write('{"st')  # A process died while writing.
        assert workdir.truncate_metrics(size)
        workdir.append_metrics({"step": 2})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2]
        assert not workdir.truncate_metrics(1000)  # Larger than the file, which stays unchanged.
        assert workdir.metrics_size() == 2 * size


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, '{"a": NaN', "\udcff"])
def test_file_that_is_not_a_json_object_is_read_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with Workdir(str(tmp_path)) as workdir:
        assert workdir.read_json("config.json") is None
        assert workdir.read_json("missing.json") is None


def test_failed_write_is_reported(tmp_path: Path) -> None:
    with Workdir(str(tmp_path / "w")) as workdir:
        (tmp_path / "w" / ".lock").unlink()
        (tmp_path / "w").rmdir()
        with pytest.raises(UserError, match=r"^cannot write .*metrics\.jsonl \(No such file"):
            workdir.append_metrics({"step": 1})
        with pytest.raises(UserError, match=r"^cannot write .*result\.json \(No such file"):
            workdir.write_json("result.json", {})


def test_invalid_rows_of_metrics_are_skipped(tmp_path: Path) -> None:
    row = {"step": 1, "split": "test", "loss": 0.5, "accuracy": 0.5}
    lines = [
        json.dumps(row),
        "5",
        "null",
        "[]",
        '{"split": "train"}',
        '{"step": 2, "spl',
        "{" * 9999,
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert read_metrics(tmp_path) == [row]
    assert read_metrics(tmp_path / "missing") == []


def test_workdir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match=r"^cannot write .*file \(File exists\)"):
        Workdir(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"


def test_second_run_is_refused_while_the_first_holds_the_lock(tmp_path: Path) -> None:
    with (
        Workdir(str(tmp_path)),
        pytest.raises(UserError, match=r"in use by another run \(process \d+ on "),
    ):
        Workdir(str(tmp_path))
    Workdir(str(tmp_path)).__exit__()


@pytest.mark.durability
def test_lock_of_a_dead_process_is_released(tmp_path: Path) -> None:
    # The process ends with the folder open, without any cleanup, as if killed by SIGKILL.
    code = f"import os; from cnn_jax.io.workdir import Workdir; w = Workdir({str(tmp_path)!r}); "
    subprocess.run([sys.executable, "-c", code + "os._exit(9)"], check=False, timeout=60)
    assert (tmp_path / ".lock").read_text().startswith("process ")
    with Workdir(str(tmp_path)):
        pass
