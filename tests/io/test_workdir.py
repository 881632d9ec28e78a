"""Tests of atomic writes to a workdir, and of its lock, which ends with its process."""

import errno
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnn_jax.errors import UserError
from cnn_jax.io import workdir
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
    assert (tmp_path / ".lock").read_text().startswith("\nprocess ")
    with Workdir(str(tmp_path)):
        pass


def test_lock_file_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on " + 99 * "x" + "\n")
    with Workdir(str(tmp_path)):
        line = f"\nprocess {os.getpid()} on {socket.gethostname()}\n"
        assert (tmp_path / ".lock").read_text() == line


def test_file_system_without_locks_is_used_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_no_locks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(workdir, "lock_descriptor", raise_no_locks)
    monkeypatch.setattr(workdir, "unlock_descriptor", raise_no_locks)
    with Workdir(str(tmp_path)) as opened:
        opened.write_json("result.json", {"steps": 3})
        assert opened.read_json("result.json") == {"steps": 3}


def test_holder_is_named_where_the_first_byte_of_a_locked_file_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows: LockFileEx locks the first byte, for readers, too.
    class LockedFile(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() == 0:
                raise PermissionError(errno.EACCES, "Permission denied")
            return super().readinto(buffer) or 0

    with Workdir(str(tmp_path)):
        opened = io.BufferedRandom(LockedFile(tmp_path / ".lock", "a+"))
        monkeypatch.setattr(Path, "open", lambda *_: opened)
        with pytest.raises(UserError, match=rf"another run \(process {os.getpid()} on "):
            Workdir(str(tmp_path))
