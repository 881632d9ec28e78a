import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_jax.io import files


def content_of(path: Path) -> bytes:
    content = files.read_checksummed(path)
    assert content is not None
    return bytes(content)


def test_checksummed_file_is_read_back(tmp_path: Path) -> None:
    files.write_checksummed(tmp_path / "file", b"one", b"", b"two")
    assert content_of(tmp_path / "file") == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_missing_or_damaged_file_is_read_as_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert files.read_checksummed(path) is None
    files.write_checksummed(path, b"content")
    intact = path.read_bytes()
    for offset in range(len(intact)):
        path.write_bytes(intact[:offset] + bytes([intact[offset] ^ 1]) + intact[offset + 1 :])
        assert files.read_checksummed(path) is None
        path.write_bytes(intact[:offset])
        assert files.read_checksummed(path) is None
    path.write_bytes(intact + b"x")
    assert files.read_checksummed(path) is None


def test_temporary_files_of_dead_processes_are_deleted_after_an_hour(tmp_path: Path) -> None:
    old, new = (tmp_path / f"file.{pid}.tmp" for pid in (1, 2))
    unrelated = tmp_path / "file2.1.tmp"
    for path in (old, new, unrelated):
        path.write_bytes(b"truncated")
        os.utime(path, (0, 0))
    os.utime(new)  # Another process may still be writing it.
    files.write_checksummed(tmp_path / "file", b"content")
    assert not old.exists()
    assert new.exists()
    assert unrelated.exists()


def test_file_that_another_process_reads_is_replaced_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows refuses to replace an open file. The reader closes it after two attempts.
    replace, errors = Path.replace, [PermissionError(13, "Access is denied")] * 2

    def replace_closed_file(self: Path, target: Path) -> None:
        if errors:
            raise errors.pop()
        replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_closed_file)
    files.write_checksummed(tmp_path / "file", b"content")
    assert content_of(tmp_path / "file") == b"content"


def test_file_that_stays_open_in_another_process_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(files, "_REPLACE_SECONDS", 0.0)
    with pytest.raises(PermissionError):
        files.write_atomically(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.durability
@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.replace"])
def test_process_killed_while_writing_leaves_the_old_file(tmp_path: Path, function: str) -> None:
    path = tmp_path / "file"
    files.write_checksummed(path, b"before")
    code = """
import os, pathlib, signal, sys
from unittest import mock
from cnn_jax.io import files
with mock.patch(sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
    files.write_checksummed(pathlib.Path(sys.argv[1]), b"after")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), function], check=False, timeout=60
    )
    assert done.returncode == -9
    assert content_of(path) == b"before"
    files.write_checksummed(path, b"after")
    assert content_of(path) == b"after"
