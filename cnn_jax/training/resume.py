"""Chooses the checkpoint to resume from, and prepares a workdir for the resumed run."""

from collections.abc import Callable

from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.checkpoint import film
from cnn_jax.checkpoint.metadata import describe_numerics, environment
from cnn_jax.checkpoint.restore import Checkpoint, newest_checkpoint, set_aside_damaged
from cnn_jax.checkpoint.state import first_different_array
from cnn_jax.config.changes import describe_changes
from cnn_jax.errors import UserError
from cnn_jax.io.workdir import Workdir


def find_start(
    config: ConfigDict, info: data.Info, workdir: Workdir, warn: Callable[[str], None]
) -> Checkpoint | None:
    """Returns the checkpoint to resume from, or None to start at step 0; changes nothing.

    Args:
      config: config checked by `schema.check`.
      info: its data set.
      workdir: workdir of the run.
      warn: prints a warning.

    Raises:
      UserError: when the workdir holds another run, or no intact checkpoint.
    """
    checkpoint = newest_checkpoint(workdir.path / "checkpoints", warn)
    if checkpoint is None:
        _check_unused(config, workdir)
        return None
    changes = describe_changes(config, checkpoint.metadata["config"])
    if (digest := checkpoint.metadata["dataset"].get("digest", "")) != info.digest:
        changes.append(
            f"the data had the SHA-256 {digest[:12] or 'of no files'} and have "
            f"{info.digest[:12] or 'that of no files'}"
        )
    if array := first_different_array(config, info, checkpoint):
        changes.append(f"the array {array}")
    if changes:
        raise _another_run(workdir, changes)
    return checkpoint


def prepare_workdir(
    checkpoint: Checkpoint | None, workdir: Workdir, warn: Callable[[str], None]
) -> None:
    """Sets aside or removes what the run will produce again: checkpoints, metrics rows, frames.

    Args:
      checkpoint: checkpoint from `find_start`.
      workdir: workdir of the run.
      warn: prints a warning.
    """
    size = 0
    if checkpoint:
        size = checkpoint.metadata["progress"]["metrics_bytes"]
        set_aside_damaged(workdir.path / "checkpoints", checkpoint.step)
        then, now = describe_numerics(checkpoint.metadata), describe_numerics(environment())
        if then != now:
            warn(f"this run was saved with {then} and resumes with {now}: its bits may differ")
    film.remove_later_frames(workdir.path, checkpoint.step if checkpoint else -1)
    if not workdir.truncate_metrics(size):
        warn(f"{workdir.path / 'metrics.jsonl'} has lost rows: the run resumes without them")


def _check_unused(config: ConfigDict, workdir: Workdir) -> None:
    """Checks that a run may start here: in an empty folder, or over its own aborted start."""
    result = workdir.read_json("result.json")
    if not workdir.metrics_size() and result is None:
        return  # An aborted start, without data for example, left nothing of value.
    before = (workdir.read_json("config.json") or {}).get("config")
    if result is not None or not isinstance(before, dict):
        raise UserError(
            f"workdir {workdir.path} holds a run without a checkpoint to resume from: --workdir "
            "must be a new or empty folder, or one with checkpoints. Choose another --workdir, or "
            "delete that one."
        )
    if changes := describe_changes(config, before):
        raise _another_run(workdir, changes)


def _another_run(workdir: Workdir, changes: list[str]) -> UserError:
    return UserError(
        f"workdir {workdir.path} holds another run: {'; '.join(changes)}. The values must be the "
        "same; num_epochs may be larger where schedule=constant. Use the old values, or choose "
        "another --workdir."
    )
