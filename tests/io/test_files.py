import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnn_jax.io import files

pytestmark = pytest.mark.durability


def content_of(path: Path) -> bytes:
    content = files.read_checksummed(path)
    assert content is not None
    return bytes(content)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    files.write_checksummed(tmp_path / "file", b"one", b"", b"two")
    assert content_of(tmp_path / "file") == b"onetwo"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_missing_or_changed_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert files.read_checksummed(path) is None
    files.write_checksummed(path, b"content")
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert files.read_checksummed(path) is None
        path.write_bytes(whole[:place])
        assert files.read_checksummed(path) is None
    path.write_bytes(whole + b"x")
    assert files.read_checksummed(path) is None


def test_what_dead_processes_left_is_cleared_away_after_an_hour(tmp_path: Path) -> None:
    old, new = (tmp_path / f"file.{pid}.tmp" for pid in (1, 2))
    other = tmp_path / "file2.1.tmp"
    for path in (old, new, other):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    os.utime(new)  # Somebody may be writing this one.
    files.write_checksummed(tmp_path / "file", b"whole")
    assert not old.exists()
    assert new.exists()
    assert other.exists()


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_process_killed_while_writing_leaves_the_file_before(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file"
    files.write_checksummed(path, b"before")
    code = """
import os, pathlib, signal, sys
from unittest import mock
from cnn_jax.io import files
with mock.patch(sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
    files.write_checksummed(pathlib.Path(sys.argv[1]), b"after")
"""
    done = subprocess.run([sys.executable, "-c", code, str(path), moment], check=False, timeout=60)
    assert done.returncode == -9
    assert content_of(path) == b"before"
    files.write_checksummed(path, b"after")
    assert content_of(path) == b"after"
