"""What is saved comes back, or it is known that it does not."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from cnn_jax.checkpoint import KEPT, Checkpoint, Checkpoints
from cnn_jax.errors import UserError

pytestmark = pytest.mark.durability


def tree_of(step: int) -> dict[str, Any]:
    """Parameters, and an optimizer's state with empty parts; every array depends on the step."""
    # Noise, which no compression makes shorter, and so much that it stands in a file of its own.
    kernel = np.random.default_rng(step).normal(size=(20, 30)).astype(np.float32)
    params = {"conv": {"kernel": kernel}}
    return {"params": params, "opt_state": optax.adamw(0.1).init(params), "step": np.int32(step)}


def save(workdir: Path, *steps: int) -> None:
    with Checkpoints(workdir, read_only=False) as checkpoints:
        for step in steps:
            checkpoints.save(step, tree_of(step), {"config": {"seed": step, "rate": 0.1 + 0.2}})


def newest(workdir: Path) -> tuple[Checkpoint | None, list[str]]:
    warnings: list[str] = []
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.newest(warnings.append), warnings


def files_of(workdir: Path, step: int) -> list[Path]:
    folder = workdir / "checkpoints" / str(step)
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("saved")
    save(workdir, 10, 20)
    return workdir


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "w"))


def test_what_is_saved_comes_back(saved: Path) -> None:
    checkpoint, warnings = newest(saved)
    assert checkpoint is not None
    assert warnings == []
    assert checkpoint.step == 20
    assert checkpoint.record["config"] == {"seed": 20, "rate": 0.1 + 0.2}
    assert checkpoint.difference(tree_of(1)) is None
    chex.assert_trees_all_equal(checkpoint.tree(tree_of(1)), tree_of(20))
    chex.assert_trees_all_equal_dtypes(checkpoint.tree(tree_of(1)), tree_of(20))


def test_any_of_those_kept_can_be_had(saved: Path) -> None:
    with Checkpoints(saved, read_only=True) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.at(10).tree(tree_of(1)), tree_of(10))
        with pytest.raises(UserError, match="no checkpoint of step 7: there are 10, 20"):
            checkpoints.at(7)


def test_anybody_can_read_the_parameters_with_orbax(saved: Path) -> None:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        state = checkpointer.restore(
            saved / "checkpoints" / "20" / "state",
            ocp.args.PyTreeRestore(
                restore_args={"params": {"conv": {"kernel": ocp.RestoreArgs(np.ndarray)}}},
                item={"params": {"conv": {"kernel": 0}}},
                partial_restore=True,
            ),
        )
    chex.assert_trees_all_equal(state["params"], tree_of(20)["params"])


def test_a_copy_is_saved_whatever_happens_to_the_arrays(tmp_path: Path) -> None:
    tree = tree_of(1)
    with Checkpoints(tmp_path, read_only=False) as checkpoints:
        checkpoints.save(1, tree, {})
        tree["params"]["conv"]["kernel"][:] = np.nan  # As the next step does, on a CPU.
    checkpoint, _ = newest(tmp_path)
    assert checkpoint is not None
    chex.assert_trees_all_equal(checkpoint.tree(tree), tree_of(1))


def test_the_newest_few_are_kept(tmp_path: Path) -> None:
    save(tmp_path, *range(1, KEPT + 3))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == list(range(3, KEPT + 3))


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    assert not list(tmp_path.iterdir())
    with Checkpoints(tmp_path, read_only=False):
        assert newest(tmp_path) == (None, [])


def test_what_is_half_written_does_not_count_and_is_cleared_away(copy: Path) -> None:
    folder = copy / "checkpoints"
    (folder / "20").rename(folder / "20.orbax-checkpoint-tmp")
    (folder / "notes.txt").write_text("mine")
    checkpoint, warnings = newest(copy)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (10, [])
    with Checkpoints(copy, read_only=False) as checkpoints:
        checkpoints.save(20, tree_of(20), {})
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "notes.txt"]


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


def test_a_reader_finds_the_newest_while_a_training_replaces_them(saved: Path, copy: Path) -> None:
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
        checkpoints.put_aside_after(checkpoint.step)
        assert checkpoints.steps() == [10]
        aside = copy / "checkpoints" / "20.damaged"
        assert aside.is_dir()
        checkpoints.save(20, tree_of(20), {})
        checkpoints.wait()
        assert not aside.exists()  # Only now is there something newer that is whole.
    checkpoint, warnings = newest(copy)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (20, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda tree: tree["params"]["conv"].update(kernel=np.zeros((20, 31), np.float32)),
            "params.conv.kernel is float32[20,30] there and float32[20,31] here",
        ),
        (
            lambda tree: tree["params"]["conv"].update(kernel=np.zeros((20, 30), np.float16)),
            "params.conv.kernel is float32[20,30] there and float16[20,30] here",
        ),
        (
            lambda tree: tree["params"].update(linear=np.zeros(2, np.float32)),
            "params.linear is missing there and float32[2] here",
        ),
        (lambda tree: tree.pop("step"), "step is int32[] there and unknown here"),
    ],
)
def test_the_array_that_differs_is_named(saved: Path, change: Any, words: str) -> None:
    tree = tree_of(1)
    change(tree)
    checkpoint, _ = newest(saved)
    assert checkpoint is not None
    assert checkpoint.difference(tree) == words


def test_another_programs_checkpoints_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        manager.save(5, args=ocp.args.StandardSave({"params": {"Dense_0": {"bias": np.ones(2)}}}))
    with pytest.raises(UserError, match=r"checkpoint 5 .*another program.*params\.Dense_0\.bias"):
        newest(tmp_path)


def test_a_folder_of_numbers_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "5" / "holidays").mkdir(parents=True)
    with pytest.raises(UserError, match=r"checkpoint 5 .*another program.*holds no arrays"):
        newest(tmp_path)


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cnn_jax.checkpoint._FORMAT", 2)
        save(tmp_path, 10)
    with pytest.raises(UserError, match="has the format 2: allowed is 1"):
        newest(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("precious")
    with pytest.raises(UserError, match="checkpoints cannot be used"):
        Checkpoints(tmp_path, read_only=False)
    assert (tmp_path / "checkpoints").read_text() == "precious"


def test_what_cannot_be_written_is_said_and_the_others_stay(
    copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # A limit for files of 2 KiB: the array of 64 kB does not fit. Set for a process of its own.
    code = """
import sys
from pathlib import Path
import numpy as np
from cnn_jax.checkpoint import Checkpoints
from cnn_jax.errors import UserError
from absl import logging
logging.set_verbosity(logging.FATAL)
try:
    with Checkpoints(Path(sys.argv[1]), read_only=False) as checkpoints:
        for step in (30, 40):
            noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
            checkpoints.save(step, {"a": noise}, {})
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 2 && exec "$@"', "-", sys.executable, "-c", code, str(copy)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.startswith(
        "the checkpoint of step 30 cannot be written (File too large). Those before it are whole."
    )
    assert done.stderr == ""
    checkpoint, warnings = newest(copy)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (20, [])
    assert capfd.readouterr().err == ""


def test_what_four_devices_saved_one_can_have(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from cnn_jax.checkpoint import Checkpoints
devices = jax.devices()
assert len(devices) == 4
mesh = Mesh(devices, ("data",))
tree = {
    "split": jax.device_put(jnp.arange(8.0), NamedSharding(mesh, PartitionSpec("data"))),
    "everywhere": jax.device_put(jnp.arange(3), NamedSharding(mesh, PartitionSpec())),
}
with Checkpoints(Path(sys.argv[1]), read_only=False) as checkpoints:
    checkpoints.save(1, tree, {})
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        timeout=100,
        check=True,
    )
    assert len(jax.devices()) == 1
    checkpoint, _ = newest(tmp_path)
    assert checkpoint is not None
    expected = {"split": np.arange(8, dtype=np.float32), "everywhere": np.arange(3, dtype=np.int32)}
    chex.assert_trees_all_equal(jax.device_put(checkpoint.tree(expected)), expected)


def test_the_record_says_what_each_array_is(saved: Path) -> None:
    record = json.loads((saved / "checkpoints" / "20" / "record" / "metadata").read_text())
    assert record["arrays"]["params.conv.kernel"] == "float32[20,30]"
    assert record["format"] == 1
