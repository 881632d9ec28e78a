"""Saves the state of a run with Orbax, and takes back only what is whole.

A checkpoint, `WORKDIR/checkpoints/STEP`, has two items: `state`, a tree of arrays, and `record`,
JSON that says how they came about and holds a SHA-256 over itself and them. Orbax writes into a
folder of another name and renames it, so half a checkpoint never counts; but it checks only its
indices, so an array that has changed on the disk would be taken for another one without a word.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import numpy.typing as npt
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.errors import describe_arrays, is_transient, short_message, translate_errors
from cnn_jax.engine import sharding
from cnn_jax.errors import UserError

MAX_TO_KEEP = 3  # Checkpoints; where the newest is damaged, the one before it takes its place.
_TRIES = 20  # Of a reader, whose checkpoint a running training may have removed.
_MAX_COMPRESSION = 100  # Noise and numbers that are not zero shrink by a tenth.
_FORMAT = 1  # Raise it whenever a checkpoint of before could not be gone on with.


class _DamagedError(Exception):
    """A checkpoint is not what was saved; the message says why that is known."""


class _ForeignError(_DamagedError):
    """A checkpoint has no record: half of it is gone, or another program saved it."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole.

    Attributes:
      step: its number.
      arrays: all arrays, by their path in the tree, as in `params.conv_1.kernel`.
      record: what was saved with them.
    """

    step: int
    arrays: tree.Arrays
    record: Mapping[str, Any]

    def difference(self, like: Any) -> str | None:
        """The first array that another tree has not, or has in another form, in words.

        Args:
          like: a tree of arrays or of their shapes.
        """
        return tree.first_difference(
            {path: tree.dtype_and_shape(a) for path, a in self.arrays.items()}, like
        )

    def tree(self, like: Any) -> Any:
        """The arrays in the form of a tree that has no `difference`."""
        return tree.unflatten(self.arrays, like)


class Checkpoints:
    """The checkpoints of a workdir; to be closed, which waits for what is still being written."""

    def __init__(self, workdir: Path, *, read_only: bool, mesh: Mesh | None = None) -> None:
        """Opens them.

        Args:
          workdir: whose folder `checkpoints` has them, or will have them.
          read_only: changes nothing, and knows no other process; otherwise what was left
            half-written is removed, and all processes have to do the same.
          mesh: over all processes, where there are several and they write together.

        Raises:
          UserError: when the folder cannot be used.
        """
        self.folder = workdir / "checkpoints"
        self._read_only, self._mesh = read_only, mesh
        self._manager: ocp.CheckpointManager | None = None
        self._writing: int | None = None
        with translate_errors(f"{self.folder} cannot be used", "Choose another --workdir"):
            if read_only and not self.folder.is_dir():
                return
            if not read_only:
                self.folder.mkdir(exist_ok=True)
            for attempt in range(_TRIES):
                try:
                    self._manager = self._open()
                    return
                except FileNotFoundError:  # One was removed while they were listed.
                    if not read_only or attempt == _TRIES - 1:
                        raise

    def _open(self) -> ocp.CheckpointManager:
        return ocp.CheckpointManager(
            self.folder.absolute(),
            item_handlers={
                "state": ocp.PyTreeCheckpointHandler(),
                "record": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None if self._read_only else MAX_TO_KEEP,
                cleanup_tmp_directories=not self._read_only,
                read_only=self._read_only,
                multiprocessing_options=_of_this_process()
                if self._read_only
                else ocp.options.MultiprocessingOptions(),
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        if self._manager:
            # Where there is an error already, a second one would hide it.
            with contextlib.suppress(Exception) if kind else self._written():
                self._manager.close()

    def steps(self) -> list[int]:
        """Numbers of the finished checkpoints, the oldest first."""
        return sorted(self._manager.all_steps()) if self._manager else []

    def save(self, step: int, state: Any, record: Mapping[str, Any]) -> None:
        """Begins to save; returns when the arrays are copied, before they are written.

        Args:
          step: number of the checkpoint, larger than those there are.
          state: a tree of arrays.
          record: goes into JSON; has none of the keys `format`, `arrays` and `sha256`.

        Raises:
          UserError: when this or the save before it fails; earlier checkpoints stay as they are.
        """
        assert self._manager
        flat = tree.flatten(state)
        forms = {path: tree.dtype_and_shape(array) for path, array in flat.items()}
        whole = {**record, "format": _FORMAT, "arrays": forms}
        whole["sha256"] = tree.sha256_of(whole, flat)
        self.wait()  # So does Orbax; here it is known which of the two failed.
        self._writing = step
        # Arrays that all processes have are written by all of them, each a part.
        everywhere = sharding.replicated(self._mesh) if self._mesh else None
        saved: Any = sharding.to_devices(flat, everywhere) if everywhere else flat
        with self._written():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(unflatten_dict(saved, sep=".")),
                    record=ocp.args.JsonSave(whole),
                ),
                force=True,  # Or Orbax would decide whether it is worth saving.
            )

    def wait(self) -> None:
        """Waits until everything is written; only then goes what was put aside as damaged.

        Raises:
          UserError: when it cannot be; earlier checkpoints stay as they are.
        """
        assert self._manager
        with self._written():
            self._manager.wait_until_finished()
            if self._writing is not None and jax.process_index() == 0:
                for damaged in self.folder.glob("*.damaged"):
                    shutil.rmtree(damaged)

    def _written(self) -> contextlib.AbstractContextManager[None]:
        return translate_errors(
            f"the checkpoint of step {self._writing} cannot be written",
            "Those before it are whole. Make room or allow writing, and start again: the run goes "
            "on from there",
        )

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        Args:
          warn: takes a line about those that had to be passed over.

        Raises:
          UserError: when none is whole, or all are of another program.
        """
        for _ in range(_TRIES):
            steps = self.steps()
            checkpoint, passed_over = self._newest_of(steps)
            # Where a running training has removed them, it has newer ones.
            if not passed_over or self._listed_again() == steps:
                break
        damaged = "; ".join(f"checkpoint {n} is damaged ({e})" for n, e in passed_over)
        if checkpoint:
            if damaged:
                warn(f"{self.folder}: {damaged}: {checkpoint.step} is taken instead")
            return checkpoint
        if not passed_over:
            return None
        if all(isinstance(error, _ForeignError) for _, error in passed_over):
            step = passed_over[0][0]
            raise UserError(
                f"checkpoint {step} of {self.folder} is of another program: it has no record, and "
                f"holds {describe_arrays(self.folder / str(step))}. Choose another --workdir."
            )
        raise UserError(
            f"{self.folder} has no checkpoint that is whole: {damaged}. Bring back a copy, or "
            "choose another --workdir to start over."
        )

    def _newest_of(
        self, steps: Sequence[int]
    ) -> tuple[Checkpoint | None, list[tuple[int, _DamagedError]]]:
        """The newest that is whole, and those that are newer, with what is wrong with them."""
        passed_over: list[tuple[int, _DamagedError]] = []
        for step in reversed(steps):
            try:
                return self._restore(step), passed_over
            except _DamagedError as error:
                passed_over.append((step, error))
        return None, passed_over

    def _listed_again(self) -> list[int] | None:
        """The numbers as they are now; None where one was removed while they were listed."""
        assert self._manager
        try:
            self._manager.reload()
        except FileNotFoundError:
            return None
        return self.steps()

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
          UserError: when it is missing, damaged or of another program.
        """
        if step not in self.steps():
            there = ", ".join(map(str, self.steps())) or "none"
            raise UserError(
                f"{self.folder} has no checkpoint of step {step}: there are {there}. Use one of "
                "these, or leave --step out for the newest."
            )
        try:
            return self._restore(step)
        except _DamagedError as error:
            raise UserError(
                f"checkpoint {step} of {self.folder} is damaged ({error}): allowed is a whole one. "
                "Leave --step out for the newest that is."
            ) from error

    def rename_damaged_after(self, step: int) -> None:
        """Renames the checkpoints of later steps, which were passed over as damaged."""
        assert self._manager
        with translate_errors(f"{self.folder} cannot be changed", "Allow writing, and start again"):
            for later in self.steps():
                if later > step:
                    aside = self.folder / f"{later}.damaged"
                    shutil.rmtree(aside, ignore_errors=True)
                    (self.folder / str(later)).rename(aside)
            self._manager.reload()

    def _restore(self, step: int) -> Checkpoint:
        assert self._manager
        folder = self.folder / str(step)
        if not (folder / "record").is_dir():
            raise _ForeignError("it has no record")
        try:
            record = self._manager.restore(
                step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
            )["record"]
            forms = record["arrays"]
            size = sum(map(tree.num_bytes, forms.values()))
            on_disk = sum(p.stat().st_size for p in folder.rglob("*"))
            if size > _MAX_COMPRESSION * on_disk:
                raise _DamagedError(f"{on_disk} bytes cannot hold its arrays")
            flat = {path: self._array(step, path, form) for path, form in forms.items()}
            given = record.pop("sha256")
            if tree.sha256_of(record, flat) != given:
                raise _DamagedError("it does not match its SHA-256")
        except _DamagedError:
            raise
        except Exception as error:  # Orbax raises whatever it stumbles over.
            if is_transient(error):
                raise UserError(
                    f"cannot read checkpoint {step} of {self.folder} now ({short_message(error)}). "
                    "Nothing is changed: start again when it can be read."
                ) from error
            raise _DamagedError(f"it cannot be read: {short_message(error)}") from error
        if record.get("format") != _FORMAT:
            raise UserError(
                f"checkpoint {step} of {self.folder} has the format {record.get('format')}: "
                f"allowed is {_FORMAT}. Use the version of this program that wrote it."
            )
        return Checkpoint(step, flat, record)

    def _array(self, step: int, path: str, form: str) -> npt.NDArray[Any]:
        """One array; of many at once, in damaged files, Orbax prints what befell each of them."""
        assert self._manager
        # A file of another shape, however large it claims to be, is refused before it is read.
        wanted = ocp.ArrayRestoreArgs(
            restore_type=jax.Array,
            sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
            global_shape=tree.parse_dtype_and_shape(form)[1],
            strict=True,
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    unflatten_dict({path: 0}, sep="."),
                    unflatten_dict({path: wanted}, sep="."),
                    partial_restore=True,
                )
            ),
        )
        array = np.asarray(flatten_dict(restored["state"], sep=".")[path])
        if tree.dtype_and_shape(array) != form:
            raise _DamagedError(f"{path} is {tree.dtype_and_shape(array)}")
        return array


def _of_this_process() -> ocp.options.MultiprocessingOptions:
    """Reads as if there were no other process, and so without waiting for one."""
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
