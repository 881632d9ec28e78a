"""What is saved comes back, or it is known that it does not."""

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
from cnn_jax.errors import UserError
from tests.checkpoint.saved import newest, save, tree_of

pytestmark = pytest.mark.durability


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
    save(tmp_path, *range(1, MAX_TO_KEEP + 3))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == list(range(3, MAX_TO_KEEP + 3))


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
        patch.setattr("cnn_jax.checkpoint.manager._FORMAT", 2)
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
from tests.checkpoint.saved import files_of, newest, save, tree_of
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
