"""Saves the state of a run with Orbax.

A checkpoint, `WORKDIR/checkpoints/STEP`, has two items: `state`, a tree of arrays, and `metadata`,
a JSON object that describes the run and contains a SHA-256 of itself and the arrays. Orbax writes
into a temporary folder and renames it when it is complete, so a truncated checkpoint is never
listed.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.errors import translate_orbax_errors
from cnn_jax.checkpoint.restore import FORMAT

MAX_TO_KEEP = 3  # Checkpoints: when the newest is damaged, the run resumes from the one before it.


class Checkpoints:
    """Writes the checkpoints of a workdir, in process 0; in other processes it does nothing.

    Use it as a context manager: its end waits until everything is written.

    Attributes:
      folder: the folder `checkpoints` of the workdir.
    """

    def __init__(self, workdir: Path) -> None:
        """Opens the folder for writing, and deletes incomplete checkpoints.

        Raises:
          UserError: when the folder cannot be used.
        """
        self.folder = workdir / "checkpoints"
        self._step_being_written: int | None = None
        self._manager: ocp.CheckpointManager | None = None
        if jax.process_index() != 0:
            return
        # Otherwise Orbax would wait for the other processes, for 20 minutes after a failed write.
        this_process = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        advice = "it must be a writable folder. Change that, or choose another --workdir."
        with translate_orbax_errors(f"cannot open {self.folder}", advice):
            self.folder.mkdir(exist_ok=True)
            self._manager = ocp.CheckpointManager(
                self.folder.absolute(),
                item_handlers={
                    "state": ocp.PyTreeCheckpointHandler(multiprocessing_options=this_process),
                    "metadata": ocp.JsonCheckpointHandler(multiprocessing_options=this_process),
                },
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=MAX_TO_KEEP,
                    create=False,
                    cleanup_tmp_directories=True,
                    multiprocessing_options=this_process,
                ),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        if self._manager:
            # A second error, in closing, must not hide the first one.
            with contextlib.suppress(Exception) if kind else self._translate_write_errors():
                self._manager.close()

    def save(self, step: int, state: Any, metadata: Mapping[str, Any]) -> None:
        """Starts to save a checkpoint; returns when its arrays are copied, before they are written.

        Args:
          step: number of the checkpoint, larger than those before.
          state: a tree of arrays, which this process can read.
          metadata: a JSON object without the keys `format`, `arrays` and `sha256`.

        Raises:
          UserError: when this save or the one before it fails; earlier checkpoints stay intact.
        """
        if not self._manager:
            return
        arrays = tree.flatten(state)
        content = {**metadata, "format": FORMAT, "arrays": tree.dtypes_and_shapes(arrays)}
        content["sha256"] = tree.sha256_of(content, arrays)
        self.wait()  # Orbax would wait too, but its error would not tell which of the saves failed.
        self._step_being_written = step
        with self._translate_write_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(unflatten_dict(arrays, sep=".")),
                    metadata=ocp.args.JsonSave(content),
                ),
                force=True,  # Otherwise Orbax may skip the save.
            )

    def wait(self) -> None:
        """Waits until all checkpoints are written.

        Raises:
          UserError: when a checkpoint cannot be written; earlier checkpoints stay intact.
        """
        if self._manager:
            with self._translate_write_errors():
                self._manager.wait_until_finished()

    def _translate_write_errors(self) -> contextlib.AbstractContextManager[None]:
        step = self._step_being_written
        return translate_orbax_errors(
            f"cannot close {self.folder}"
            if step is None
            else f"cannot write checkpoint {step} of {self.folder}",
            "--workdir must be a writable folder on a disk with free space. Free space or change "
            "permissions, and start again: earlier checkpoints are intact, and the run resumes "
            "from the newest.",
        )
