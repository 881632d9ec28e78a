"""The shared memory of the host."""

import os
import shutil
import sys

import pytest

from cnn_jax.io import environment


def test_shared_memory_is_what_the_file_system_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.isdir("/dev/shm"):
        pytest.skip("only Linux has /dev/shm")
    total, *_ = shutil.disk_usage("/dev/shm")
    assert 0 <= environment.free_shared_memory() <= total
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # Read-only.
    assert environment.free_shared_memory() == 0


def test_shared_memory_is_not_limited_where_it_is_no_file_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    assert environment.free_shared_memory() == sys.maxsize
