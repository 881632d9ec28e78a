"""Whatever is wrong with a checkpoint is noticed, and the one before it taken."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import numpy as np
import orbax.checkpoint as ocp
import pytest

from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.errors import UserError
from tests.checkpoint.saved import files_of, newest, tree_of

pytestmark = pytest.mark.durability


def damages(path: Path) -> Iterator[bytes]:
    """A file truncated in two ways, and with one byte flipped at six places."""
    whole = path.read_bytes()
    yield whole[: len(whole) // 2]
    yield b""
    for place in sorted({len(whole) * tenths // 10 for tenths in (0, 1, 4, 5, 7, 9)}):
        yield whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]


def test_damage_anywhere_is_noticed_or_harmless(
    copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noticed = set()
    for path in files_of(copy, 20):
        whole = path.read_bytes()
        for damaged in damages(path):
            path.write_bytes(damaged)
            checkpoint, warnings = newest(copy)
            assert checkpoint is not None
            # Orbax keeps some things twice: then nothing is lost. Never is another array taken.
            chex.assert_trees_all_equal(checkpoint.tree(tree_of(1)), tree_of(checkpoint.step))
            assert checkpoint.record["config"]["seed"] == checkpoint.step
            assert len(warnings) == (checkpoint.step == 10)
            if warnings:
                assert "checkpoint 20 is damaged" in warnings[0]
                assert warnings[0].endswith(": 10 is taken instead")
                noticed.add(path.relative_to(copy / "checkpoints" / "20").parts[0])
        path.write_bytes(whole)
    assert noticed >= {"state", "record"}
    assert capfd.readouterr().err == ""


def test_a_flipped_bit_of_an_array_is_known_by_the_digest(copy: Path) -> None:
    path = max(files_of(copy, 20), key=lambda path: path.stat().st_size)  # The kernel's.
    whole = path.read_bytes()
    said = []
    for place in range(len(whole) // 2, len(whole) // 2 + 10):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        checkpoint, warnings = newest(copy)
        assert checkpoint is not None
        assert checkpoint.step == 10
        said += warnings
    # Some would make it unreadable, but most just make other numbers of it.
    assert sum("damaged (it does not match its SHA-256): 10" in text for text in said) >= 5
    with (
        Checkpoints(copy, read_only=True) as checkpoints,
        pytest.raises(UserError, match=r"checkpoint 20 of .* is damaged .*Leave --step out"),
    ):
        checkpoints.at(20)


@pytest.mark.parametrize("gone", ["record", "state", "."])
def test_half_a_checkpoint_costs_a_warning(copy: Path, gone: str) -> None:
    # Somebody, or a process that was killed, has deleted a part of it.
    shutil.rmtree(copy / "checkpoints" / "20" / gone, ignore_errors=True)
    (copy / "checkpoints" / "20").mkdir(exist_ok=True)
    checkpoint, warnings = newest(copy)
    assert checkpoint is not None
    assert checkpoint.step == 10
    (warning,) = warnings
    assert "checkpoint 20 is damaged" in warning


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_reader_finds_the_newest_while_a_training_replaces_them(
    copy: Path, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Listing them can fail as well, where one goes while it is looked at.
    left = iter(range(failures))
    reload = ocp.CheckpointManager.reload

    def failing(self: ocp.CheckpointManager) -> None:
        if next(left, None) is not None:
            raise FileNotFoundError
        reload(self)

    monkeypatch.setattr(ocp.CheckpointManager, "reload", failing)
    with Checkpoints(copy, read_only=True) as reader:
        assert reader.steps() == [10, 20]
        save_more = Checkpoints(copy, read_only=False)
        for step in (30, 40, 50):
            save_more.save(step, tree_of(step), {})
        save_more.__exit__(None)
        assert not (copy / "checkpoints" / "20").exists()
        warnings: list[str] = []
        checkpoint = reader.newest(warnings.append)
        assert checkpoint is not None
        assert (checkpoint.step, warnings) == (50, [])


def test_what_cannot_be_read_now_is_not_taken_for_damaged(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(ocp.CheckpointManager, "restore", away)
    with pytest.raises(UserError, match=r"checkpoint 20 .*cannot be read now \(Input/output error"):
        newest(copy)


def test_a_checkpoint_that_unpacks_to_gigabytes_is_not_read(tmp_path: Path) -> None:
    tree = {"a": np.zeros(50_000_000, np.float32)}  # 200 MB, of which zstd makes some kilobytes.
    with Checkpoints(tmp_path, read_only=False) as checkpoints:
        checkpoints.save(1, tree, {})
    with pytest.raises(UserError, match=r"no checkpoint that is whole: .* cannot hold its arrays"):
        newest(tmp_path)
    # Where the record lies about it, the shape in the file is seen before anything is read.
    path = tmp_path / "checkpoints" / "1" / "record" / "metadata"
    path.write_text(path.read_text().replace("[50000000]", "[2]"))
    with pytest.raises(UserError, match=r"shape: \(2,\) is not compatible"):
        newest(tmp_path)


def test_where_none_is_whole_it_is_said(copy: Path) -> None:
    for step in (10, 20):
        for path in files_of(copy, step):
            path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint that is whole: .*20 .*; .*10 "):
        newest(copy)


def test_those_passed_over_are_replaced(copy: Path) -> None:
    for path in files_of(copy, 20):
        path.write_bytes(b"")
    with Checkpoints(copy, read_only=False) as checkpoints:
        checkpoint = checkpoints.newest(lambda _: None)
        assert checkpoint is not None
        checkpoints.rename_damaged_after(checkpoint.step)
        assert checkpoints.steps() == [10]
        aside = copy / "checkpoints" / "20.damaged"
        assert aside.is_dir()
        checkpoints.save(20, tree_of(20), {})
        checkpoints.wait()
        assert not aside.exists()  # Only now is there something newer that is whole.
    checkpoint, warnings = newest(copy)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (20, [])
