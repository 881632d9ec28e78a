"""Saves the state of a run with Orbax, and finds the newest intact checkpoint.

A checkpoint, `WORKDIR/checkpoints/STEP`, has two items: `state`, a tree of arrays, and `metadata`,
a JSON object that describes the run and contains a SHA-256 of itself and the arrays. Orbax writes
into a temporary folder and renames it when it is complete, so a truncated checkpoint is never
listed.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from jax.sharding import Mesh

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.errors import describe_arrays, translate_errors
from cnn_jax.checkpoint.restore import (
    FORMAT,
    Checkpoint,
    DamagedError,
    ForeignError,
    restore_checkpoint,
)
from cnn_jax.engine import sharding
from cnn_jax.errors import UserError

MAX_TO_KEEP = 3  # Checkpoints: when the newest is damaged, the run resumes from the one before it.
_READ_ATTEMPTS = 20  # A running training may remove a checkpoint while another process reads it.


class Checkpoints:
    """The checkpoints of a workdir.

    Use it as a context manager: its end waits until everything is written.

    Attributes:
      folder: the folder `checkpoints` of the workdir.
    """

    def __init__(self, workdir: Path, *, read_only: bool, mesh: Mesh | None = None) -> None:
        """Opens the checkpoints.

        Args:
          workdir: the folder of a run; need not contain checkpoints.
          read_only: changes nothing on the disk and never waits for another process. Otherwise
            incomplete checkpoints are deleted, and all processes must make the same calls.
          mesh: the device mesh over all processes, when several processes write together.

        Raises:
          UserError: when the folder cannot be used.
        """
        self.folder = workdir / "checkpoints"
        self._read_only, self._mesh = read_only, mesh
        self._manager: ocp.CheckpointManager | None = None
        self._step_being_written: int | None = None
        access = "readable" if read_only else "readable and writable"
        advice = f"it must be a {access} folder. Change that, or choose another --workdir."
        with translate_errors(f"cannot open {self.folder}", advice):
            if read_only and not self.folder.is_dir():
                return
            if not read_only:
                self.folder.mkdir(exist_ok=True)
            for attempt in range(_READ_ATTEMPTS):
                try:
                    self._manager = self._open()
                    return
                except FileNotFoundError:  # A training removed a checkpoint during the listing.
                    if not read_only or attempt == _READ_ATTEMPTS - 1:
                        raise

    def _open(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self.folder.absolute(),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(),
                "metadata": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None if self._read_only else MAX_TO_KEEP,
                cleanup_tmp_directories=not self._read_only,
                read_only=self._read_only,
                multiprocessing_options=_this_process_only()
                if self._read_only
                else ocp.options.MultiprocessingOptions(),
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        if self._manager:
            # A second error, in closing, must not hide the first one.
            with contextlib.suppress(Exception) if kind else self._translate_write_errors():
                self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, in ascending order."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def save(self, step: int, state: Any, metadata: Mapping[str, Any]) -> None:
        """Starts to save a checkpoint; returns when its arrays are copied, before they are written.

        Args:
          step: number of the checkpoint, larger than those in `steps()`.
          state: a tree of arrays.
          metadata: a JSON object without the keys `format`, `arrays` and `sha256`.

        Raises:
          UserError: when this save or the one before it fails; earlier checkpoints stay intact.
        """
        assert self._manager
        flat = tree.flatten(state)
        dtypes_and_shapes = {path: tree.dtype_and_shape(array) for path, array in flat.items()}
        content = {**metadata, "format": FORMAT, "arrays": dtypes_and_shapes}
        content["sha256"] = tree.sha256_of(content, flat)
        self.wait()  # Orbax would wait too, but its error would not tell which of the saves failed.
        self._step_being_written = step
        # With several processes, each writes a part of every array.
        replicated = sharding.replicated(self._mesh) if self._mesh else None
        arrays: Any = sharding.to_devices(flat, replicated) if replicated else flat
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
        """Waits until all checkpoints are written, then deletes the damaged ones that they replace.

        Raises:
          UserError: when a checkpoint cannot be written; earlier checkpoints stay intact.
        """
        assert self._manager
        with self._translate_write_errors():
            self._manager.wait_until_finished()
            if self._step_being_written is not None and jax.process_index() == 0:
                for damaged in self.folder.glob("*.damaged"):
                    shutil.rmtree(damaged)

    def _translate_write_errors(self) -> contextlib.AbstractContextManager[None]:
        step = self._step_being_written
        return translate_errors(
            f"cannot close {self.folder}"
            if step is None
            else f"cannot write checkpoint {step} of {self.folder}",
            "--workdir must be a writable folder on a disk with free space. Free space or change "
            "permissions, and start again: earlier checkpoints are intact, and the run resumes "
            "from the newest.",
        )

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Restores the newest intact checkpoint.

        Args:
          warn: takes one line about newer checkpoints that are damaged, if there are any.

        Returns:
          The checkpoint, or None when the folder has no checkpoint at all.

        Raises:
          UserError: when no checkpoint is intact, all were saved by another program, or one that is
            read was saved by another version of cnn_jax or cannot be read at the moment.
        """
        for _ in range(_READ_ATTEMPTS):
            steps = self.steps()
            checkpoint, damaged = self._restore_newest_of(steps)
            # A running training that has removed the checkpoints meanwhile has written newer ones.
            if not damaged or self._list_again() == steps:
                break
        description = "; ".join(f"checkpoint {n} is damaged ({error})" for n, error in damaged)
        if checkpoint:
            if damaged:
                warn(f"{self.folder}: {description}: using checkpoint {checkpoint.step} instead")
            return checkpoint
        if not damaged:
            return None
        if all(isinstance(error, ForeignError) for _, error in damaged):
            step = damaged[0][0]
            raise UserError(
                f"checkpoint {step} of {self.folder} was saved by another program: it has no item "
                f"`metadata`, and holds {describe_arrays(self.folder / str(step))}. Choose another "
                "--workdir."
            )
        raise UserError(
            f"{self.folder} has no intact checkpoint: {description}. Restore a backup, or choose "
            "another --workdir to start from the beginning."
        )

    def _restore_newest_of(
        self, steps: Sequence[int]
    ) -> tuple[Checkpoint | None, list[tuple[int, DamagedError]]]:
        """Restores the newest intact checkpoint.

        Args:
          steps: of the checkpoints, in ascending order.

        Returns:
          The checkpoint, or None when none is intact; step and error of each newer, damaged one.
        """
        damaged: list[tuple[int, DamagedError]] = []
        for step in reversed(steps):
            try:
                return self._restore(step), damaged
            except DamagedError as error:
                damaged.append((step, error))
        return None, damaged

    def _restore(self, step: int) -> Checkpoint:
        assert self._manager
        return restore_checkpoint(self._manager, self.folder, step)

    def _list_again(self) -> list[int] | None:
        """Lists the steps again; returns None when a checkpoint was removed during the listing."""
        assert self._manager
        try:
            self._manager.reload()
        except FileNotFoundError:
            return None
        return self.steps()

    def at(self, step: int) -> Checkpoint:
        """Restores the checkpoint of a step.

        Raises:
          UserError: when it is missing or damaged, was saved by another program or by another
            version of cnn_jax, or cannot be read at the moment.
        """
        if step not in self.steps():
            available = ", ".join(map(str, self.steps()))
            if not available:
                raise UserError(
                    f"{self.folder} has no checkpoint: --workdir must be that of a training run. "
                    "Choose another --workdir."
                )
            raise UserError(
                f"{self.folder} has no checkpoint of step {step}: the step must be one of those "
                f"saved ({available}). Use one of them, or leave --step out to use the newest."
            )
        try:
            return self._restore(step)
        except DamagedError as error:
            raise UserError(
                f"checkpoint {step} of {self.folder} is damaged ({error}): it must be intact. "
                "Leave --step out to use the newest intact checkpoint."
            ) from error

    def rename_damaged_after(self, step: int) -> None:
        """Renames the checkpoints of later steps, which are damaged, to STEP.damaged.

        They are deleted when a newer checkpoint has been written.

        Args:
          step: of the newest intact checkpoint.

        Raises:
          UserError: when they cannot be renamed.
        """
        assert self._manager
        with translate_errors(
            f"cannot rename damaged checkpoints in {self.folder}",
            "--workdir must be writable. Change permissions, and start again.",
        ):
            for later in self.steps():
                if later > step:
                    renamed = self.folder / f"{later}.damaged"
                    shutil.rmtree(renamed, ignore_errors=True)
                    (self.folder / str(later)).rename(renamed)
            self._manager.reload()


def _this_process_only() -> ocp.options.MultiprocessingOptions:
    """Returns options with which Orbax reads without waiting for other processes."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})
