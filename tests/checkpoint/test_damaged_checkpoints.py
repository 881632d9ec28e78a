"""Damaged checkpoints are detected, and the one before them is used instead."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import orbax.checkpoint as ocp
import pytest
from hypothesis import settings

from cnn_jax.checkpoint import restore
from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.checkpoint.restore import checkpoint_at, list_steps, set_aside_damaged
from cnn_jax.errors import UserError
from tests.checkpoint.saved import checkpoint_files, make_tree, restore_newest


def damaged_contents(intact: bytes) -> Iterator[bytes]:
    """Yields a file's content truncated in two ways, and with one byte changed at some offsets.

    There is one offset, and with hypothesis' profile "ci" there are three.
    """
    yield intact[: len(intact) // 2]
    yield b""
    is_thorough = settings.get_current_profile_name() == "ci"
    for tenths in (0, 5, 9) if is_thorough else (5,):
        offset = len(intact) * tenths // 10
        yield intact[:offset] + bytes([intact[offset] ^ 0x10]) + intact[offset + 1 :]


def test_damage_of_any_file_is_detected_or_harmless(
    copied_workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items_with_detected_damage = set()
    for path in checkpoint_files(copied_workdir, 20):
        intact = path.read_bytes()
        for damaged in damaged_contents(intact):
            path.write_bytes(damaged)
            checkpoint, warnings = restore_newest(copied_workdir)
            assert checkpoint is not None
            # Orbax keeps some facts twice; then nothing is lost. Arrays are never wrong.
            chex.assert_trees_all_equal(checkpoint.tree(make_tree(1)), make_tree(checkpoint.step))
            assert checkpoint.metadata["config"]["seed"] == checkpoint.step
            assert len(warnings) == (checkpoint.step == 10)
            if warnings:
                assert "checkpoint 20 is damaged" in warnings[0]
                assert warnings[0].endswith(": using checkpoint 10 instead")
                relative = path.relative_to(copied_workdir / "checkpoints" / "20")
                items_with_detected_damage.add(relative.parts[0])
        path.write_bytes(intact)
    assert items_with_detected_damage >= {"state", "metadata"}
    assert capfd.readouterr().err == ""


def test_flipped_bit_of_an_array_is_detected_by_the_sha256(copied_workdir: Path) -> None:
    # The largest file is that of the kernel.
    path = max(checkpoint_files(copied_workdir, 20), key=lambda path: path.stat().st_size)
    intact = path.read_bytes()
    all_warnings = []
    for offset in range(len(intact) // 2, len(intact) // 2 + 10):
        path.write_bytes(intact[:offset] + bytes([intact[offset] ^ 1]) + intact[offset + 1 :])
        checkpoint, warnings = restore_newest(copied_workdir)
        assert checkpoint is not None
        assert checkpoint.step == 10
        all_warnings += warnings
    # Some flips make the file unreadable, but most just change a number in it.
    expected = "damaged (it does not match its SHA-256): using checkpoint 10"
    assert sum(expected in warning for warning in all_warnings) >= 5
    message = r"checkpoint 20 of .* is damaged \(.*\): it must be intact\. Leave --step out"
    with pytest.raises(UserError, match=message):
        checkpoint_at(copied_workdir / "checkpoints", 20)


@pytest.mark.parametrize("deleted", ["metadata", "state", "."])
def test_partly_deleted_checkpoint_costs_a_warning(copied_workdir: Path, deleted: str) -> None:
    # As after somebody, or a process that was killed, has deleted a part of it.
    shutil.rmtree(copied_workdir / "checkpoints" / "20" / deleted, ignore_errors=True)
    (copied_workdir / "checkpoints" / "20").mkdir(exist_ok=True)
    checkpoint, warnings = restore_newest(copied_workdir)
    assert checkpoint is not None
    assert checkpoint.step == 10
    (warning,) = warnings
    assert "checkpoint 20 is damaged" in warning


def test_reader_gets_the_newest_checkpoint_while_a_training_replaces_them(
    copied_workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, folder = restore._read, copied_workdir / "checkpoints"

    def read_late(folder: Path, step: int) -> Any:
        # Between the list and the first read, a training saves three checkpoints.
        monkeypatch.setattr(restore, "_read", read)
        with Checkpoints(copied_workdir) as writer:
            for new in (30, 40, 50):
                writer.save(new, make_tree(new), {})
        return read(folder, step)

    monkeypatch.setattr(restore, "_read", read_late)
    checkpoint, warnings = restore_newest(copied_workdir)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (50, [])
    assert list_steps(folder) == [30, 40, 50]


def test_transient_read_error_does_not_count_as_damage(
    copied_workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_restore(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", failing_restore)
    message = r"cannot read checkpoint 20 .* now \(Input/output error\): .* must be readable"
    with pytest.raises(UserError, match=message):
        restore_newest(copied_workdir)


def test_error_names_every_checkpoint_if_all_are_damaged(copied_workdir: Path) -> None:
    for step in (10, 20):
        for path in checkpoint_files(copied_workdir, step):
            path.write_bytes(b"")
    message = r"no intact checkpoint: checkpoint 20 is .*; checkpoint 10 is .*Restore a backup"
    with pytest.raises(UserError, match=message):
        restore_newest(copied_workdir)


def test_damaged_checkpoint_is_set_aside_when_a_newer_one_is_written(copied_workdir: Path) -> None:
    for path in checkpoint_files(copied_workdir, 20):
        path.write_bytes(b"")
    set_aside_damaged(copied_workdir / "checkpoints", 10)
    assert (copied_workdir / "checkpoints" / "20.damaged").is_dir()
    with Checkpoints(copied_workdir) as checkpoints:
        checkpoints.save(20, make_tree(20), {})
    checkpoint, warnings = restore_newest(copied_workdir)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (20, [])
