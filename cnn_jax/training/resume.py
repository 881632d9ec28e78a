"""What a checkpoint of a run holds, and whether a run goes on with one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.checkpoint.metadata import (
    Progress,
    describe_numerics,
    environment,
    first_different_array,
    saved_config,
)
from cnn_jax.config.changes import describe_changes
from cnn_jax.errors import UserError
from cnn_jax.io.workdir import Workdir

if TYPE_CHECKING:  # A run without a workdir does without Orbax, whose import takes 0.3 s.
    from cnn_jax.checkpoint.manager import Checkpoint, Checkpoints


def find_start(
    config: ConfigDict,
    info: data.Info,
    workdir: Workdir,
    checkpoints: "Checkpoints",
    warn: Callable[[str], None],
) -> "Checkpoint | None":
    """The checkpoint to go on from, or None to begin; nothing is changed.

    Args:
      config: as checked by `config.check`.
      info: of its data set.
      workdir: of the run.
      checkpoints: of that workdir.
      warn: takes a warning.

    Raises:
      UserError: when the workdir holds another run, or nothing that is whole.
    """
    checkpoint = checkpoints.newest(warn)
    if checkpoint is None:
        _check_unused(config, workdir)
        return None
    changes = describe_changes(config, saved_config(checkpoint))
    if array := first_different_array(config, info, checkpoint):
        changes.append(f"the array {array}")
    if changes:
        raise _another_run(workdir, changes)
    Progress.of(checkpoint)  # Raises, before anything is changed, where it is none.
    return checkpoint


def prepare_workdir(
    checkpoint: "Checkpoint | None",
    workdir: Workdir,
    checkpoints: "Checkpoints",
    warn: Callable[[str], None],
) -> None:
    """Clears the way for what the run will make anew: later checkpoints, later rows of metrics.

    Arguments are as for `find_start`, which found the checkpoint.
    """
    size = 0
    if checkpoint:
        size = Progress.of(checkpoint).metrics_size
        checkpoints.rename_damaged_after(checkpoint.step)
        then, now = describe_numerics(checkpoint.record), describe_numerics(environment())
        if then != now:
            warn(f"this run was saved with {then} and goes on with {now}: its bits may differ")
    if not workdir.cut_metrics(size):
        warn(f"{workdir.path / 'metrics.jsonl'} has lost rows: the run goes on without them")


def _check_unused(config: ConfigDict, workdir: Workdir) -> None:
    """A run begins in an empty folder, or where it came to no checkpoint."""
    result = workdir.read_json("result.json")
    if not workdir.metrics_size() and result is None:
        return  # What came to nothing, for want of data say, is nobody's loss.
    before = (workdir.read_json("config.json") or {}).get("config")
    if result is not None or not isinstance(before, dict):
        raise UserError(
            f"workdir {workdir.path} holds a run already, and no checkpoint to go on from: allowed "
            "is a new or empty folder, or one with checkpoints. Choose another --workdir, or "
            "delete that one."
        )
    if changes := describe_changes(config, before):
        raise _another_run(workdir, changes)


def _another_run(workdir: Workdir, changes: list[str]) -> UserError:
    return UserError(
        f"workdir {workdir.path} holds another run: {'; '.join(changes)}: allowed are the same "
        "values, or a larger num_epochs where schedule=constant. Use those values, or choose "
        "another --workdir."
    )
