"""Saved checkpoints are restored exactly, and others are refused with the reason."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from cnn_jax.checkpoint.manager import MAX_TO_KEEP, Checkpoints
from cnn_jax.checkpoint.restore import checkpoint_at, list_steps
from cnn_jax.errors import UserError
from tests.checkpoint.saved import make_tree, restore_newest, save_checkpoints


def test_restored_checkpoint_equals_the_saved_one(saved_workdir: Path) -> None:
    checkpoint, warnings = restore_newest(saved_workdir)
    assert checkpoint is not None
    assert warnings == []
    assert checkpoint.step == 20
    assert checkpoint.metadata["config"] == {"seed": 20, "rate": 0.1 + 0.2}
    assert checkpoint.first_difference(make_tree(1)) is None
    chex.assert_trees_all_equal(checkpoint.tree(make_tree(1)), make_tree(20))
    chex.assert_trees_all_equal_dtypes(checkpoint.tree(make_tree(1)), make_tree(20))


def test_relative_workdir_is_saved_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoints(Path(), 10)
    checkpoint, warnings = restore_newest(Path())
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (10, [])


def test_checkpoint_of_any_saved_step_is_restored(saved_workdir: Path) -> None:
    folder = saved_workdir / "checkpoints"
    chex.assert_trees_all_equal(checkpoint_at(folder, 10).tree(make_tree(1)), make_tree(10))
    message = r"no checkpoint of step 7: the step must be one of those saved \(10, 20\)"
    with pytest.raises(UserError, match=message):
        checkpoint_at(folder, 7)


def test_orbax_reads_the_parameters_without_cnn_jax(saved_workdir: Path) -> None:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        state = checkpointer.restore(
            saved_workdir / "checkpoints" / "20" / "state",
            ocp.args.PyTreeRestore(
                restore_args={"params": {"conv": {"kernel": ocp.RestoreArgs(np.ndarray)}}},
                item={"params": {"conv": {"kernel": 0}}},
                partial_restore=True,
            ),
        )
    chex.assert_trees_all_equal(state["params"], make_tree(20)["params"])


def test_arrays_are_copied_before_save_returns(tmp_path: Path) -> None:
    tree = make_tree(1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {})
        tree["params"]["conv"]["kernel"][:] = np.nan  # On a CPU the next step overwrites it, too.
    checkpoint, _ = restore_newest(tmp_path)
    assert checkpoint is not None
    chex.assert_trees_all_equal(checkpoint.tree(tree), make_tree(1))


def test_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    save_checkpoints(tmp_path, *range(1, MAX_TO_KEEP + 3))
    assert list_steps(tmp_path / "checkpoints") == list(range(3, MAX_TO_KEEP + 3))


def test_new_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert restore_newest(tmp_path) == (None, [])
    assert not list(tmp_path.iterdir())
    with Checkpoints(tmp_path):
        assert restore_newest(tmp_path) == (None, [])


def test_incomplete_checkpoint_is_ignored_and_deleted(copied_workdir: Path) -> None:
    folder = copied_workdir / "checkpoints"
    (folder / "20").rename(folder / "20.orbax-checkpoint-tmp")
    (folder / "notes.txt").write_text("mine")
    checkpoint, warnings = restore_newest(copied_workdir)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (10, [])
    with Checkpoints(copied_workdir) as checkpoints:
        checkpoints.save(20, make_tree(20), {})
    assert sorted(path.name for path in folder.iterdir()) == ["10", "20", "notes.txt"]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (
            lambda tree: tree["params"]["conv"].update(kernel=np.zeros((20, 31), np.float32)),
            "params.conv.kernel is float32[20,30] in the checkpoint and must be float32[20,31]",
        ),
        (
            lambda tree: tree["params"]["conv"].update(kernel=np.zeros((20, 30), np.float16)),
            "params.conv.kernel is float32[20,30] in the checkpoint and must be float16[20,30]",
        ),
        (
            lambda tree: tree["params"].update(linear=np.zeros(2, np.float32)),
            "params.linear is missing in the checkpoint and must be float32[2]",
        ),
        (
            lambda tree: tree.pop("step"),
            "step is int32[] in the checkpoint and must be absent",
        ),
    ],
    ids=["shape", "dtype", "missing", "superfluous"],
)
def test_array_that_differs_is_named(saved_workdir: Path, change: Any, difference: str) -> None:
    tree = make_tree(1)
    change(tree)
    checkpoint, _ = restore_newest(saved_workdir)
    assert checkpoint is not None
    assert checkpoint.first_difference(tree) == difference


def test_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
        manager.save(5, args=ocp.args.StandardSave({"params": {"Dense_0": {"bias": np.ones(2)}}}))
    message = r"checkpoint 5 is damaged \(.*no item `metadata`: .* another program"
    with pytest.raises(UserError, match=message):
        restore_newest(tmp_path)


def test_numbered_folder_without_arrays_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "5" / "holidays").mkdir(parents=True)
    with pytest.raises(UserError, match=r"checkpoint 5 .*no item `metadata`"):
        restore_newest(tmp_path)


def test_checkpoint_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cnn_jax.checkpoint.manager.FORMAT", 3)
        save_checkpoints(tmp_path, 10)
    message = "by another version of cnn_jax: its format is 3 instead of 2. Choose another"
    with pytest.raises(UserError, match=message):
        restore_newest(tmp_path)


def test_file_with_the_name_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("precious")
    with pytest.raises(UserError, match=r"cannot open .*/checkpoints \(.*\): .* a writable folder"):
        Checkpoints(tmp_path)
    with pytest.raises(UserError, match=r"cannot open .*/checkpoints \(.*\): .* a readable folder"):
        restore_newest(tmp_path)
    assert (tmp_path / "checkpoints").read_text() == "precious"


@pytest.mark.durability
def test_failed_write_is_reported_and_earlier_checkpoints_stay_intact(
    copied_workdir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # With file sizes limited to 2 KiB the array of 64 kB cannot be written. The limit holds for a
    # whole process, hence a new one.
    code = """
import sys
from pathlib import Path
import numpy as np
from cnn_jax.checkpoint.manager import Checkpoints
from cnn_jax.errors import UserError
from absl import logging
logging.set_verbosity(logging.FATAL)
try:
    with Checkpoints(Path(sys.argv[1])) as checkpoints:
        for step in (30, 40):
            noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
            checkpoints.save(step, {"a": noise}, {})
except UserError as error:
    print(error)
"""
    python = [sys.executable, "-c", code, str(copied_workdir)]
    process = subprocess.run(
        ["bash", "-c", 'ulimit -f 2 && exec "$@"', "-", *python],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    folder = copied_workdir / "checkpoints"
    assert process.stdout.startswith(
        f"cannot write checkpoint 30 of {folder} (File too large): --workdir must be a writable "
    )
    assert "earlier checkpoints are intact" in process.stdout
    assert process.stderr == ""
    checkpoint, warnings = restore_newest(copied_workdir)
    assert checkpoint is not None
    assert (checkpoint.step, warnings) == (20, [])
    assert capfd.readouterr().err == ""


@pytest.mark.cluster
def test_checkpoint_of_four_devices_is_restored_on_one(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from cnn_jax.checkpoint.manager import Checkpoints
devices = jax.devices()
assert len(devices) == 4
mesh = Mesh(devices, ("data",))
tree = {
    "sharded": jax.device_put(jnp.arange(8.0), NamedSharding(mesh, PartitionSpec("data"))),
    "replicated": jax.device_put(jnp.arange(3), NamedSharding(mesh, PartitionSpec())),
}
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    checkpoints.save(1, tree, {})
"""
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        timeout=100,
        check=True,
    )
    assert len(jax.devices()) == 1
    checkpoint, _ = restore_newest(tmp_path)
    assert checkpoint is not None
    expected = {
        "sharded": np.arange(8, dtype=np.float32),
        "replicated": np.arange(3, dtype=np.int32),
    }
    chex.assert_trees_all_equal(jax.device_put(checkpoint.tree(expected)), expected)


def test_metadata_contain_format_and_dtype_and_shape_of_each_array(saved_workdir: Path) -> None:
    path = saved_workdir / "checkpoints" / "20" / "metadata" / "metadata"
    metadata = json.loads(path.read_text())
    assert metadata["arrays"]["params.conv.kernel"] == "float32[20,30]"
    assert metadata["format"] == 2
