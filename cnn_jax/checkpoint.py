"""Saves the state of a run with Orbax, and takes back only what is whole.

A checkpoint, `WORKDIR/checkpoints/STEP`, has two items: `state`, a tree of arrays, and `record`,
JSON that says how they came about and holds a SHA-256 over itself and them. Orbax writes into a
folder of another name and renames it, so half a checkpoint never counts; but it checks only its
indices, so an array that has changed on the disk would be taken for another one without a word.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import numpy.typing as npt
import orbax.checkpoint as ocp
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

from cnn_jax.errors import UserError
from cnn_jax.orbax_words import is_passing, names_of_arrays, problem, said

KEPT = 3  # Checkpoints; where the newest is damaged, the one before it takes its place.
_TRIES = 20  # Of a reader, whose checkpoint a running training may have removed.
_MAX_COMPRESSION = 100  # Noise and numbers that are not zero shrink by a tenth.
_FORMAT = 1  # Raise it whenever a checkpoint of before could not be gone on with.

Arrays = dict[str, npt.NDArray[Any]]


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
    arrays: Arrays
    record: Mapping[str, Any]

    def difference(self, like: Any) -> str | None:
        """The first array that another tree has not, or has in another form, in words.

        Args:
          like: a tree of arrays or of their shapes.
        """
        return _difference({path: _form(a) for path, a in self.arrays.items()}, like)

    def tree(self, like: Any) -> Any:
        """The arrays in the form of a tree that has no `difference`."""
        flat = flatten_dict(to_state_dict(like), keep_empty_nodes=True, sep=".")
        return from_state_dict(like, unflatten_dict(flat | self.arrays, sep="."))


class Checkpoints:
    """The checkpoints of a workdir; to be closed, which waits for what is still being written."""

    def __init__(self, workdir: Path, *, read_only: bool) -> None:
        """Opens them.

        Args:
          workdir: whose folder `checkpoints` has them, or will have them.
          read_only: changes nothing; otherwise what was left half-written is removed.

        Raises:
          UserError: when the folder cannot be used.
        """
        self.folder = workdir / "checkpoints"
        self._read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        self._writing: int | None = None
        if read_only and not self.folder.is_dir():
            return
        with said(f"{self.folder} cannot be used", "Choose another --workdir"):
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
                max_to_keep=None if self._read_only else KEPT,
                cleanup_tmp_directories=not self._read_only,
                read_only=self._read_only,
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

    def save(self, step: int, tree: Any, record: Mapping[str, Any]) -> None:
        """Begins to save; returns when the arrays are copied, before they are written.

        Args:
          step: number of the checkpoint, larger than those there are.
          tree: of arrays.
          record: goes into JSON; has none of the keys `format`, `arrays` and `sha256`.

        Raises:
          UserError: when this or the save before it fails; earlier checkpoints stay as they are.
        """
        assert self._manager
        # On CPUs JAX hands out its own memory, which the next step overwrites: hence copies.
        arrays = {
            path: np.array(array)
            for path, array in flatten_dict(to_state_dict(jax.device_get(tree)), sep=".").items()
        }
        forms = {path: _form(array) for path, array in arrays.items()}
        whole = {**record, "format": _FORMAT, "arrays": forms}
        whole["sha256"] = _digest(whole, arrays)
        self.wait()  # So does Orbax; here it is known which of the two failed.
        self._writing = step
        with self._written():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(unflatten_dict(arrays, sep=".")),
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
            if self._writing is not None:
                for damaged in self.folder.glob("*.damaged"):
                    shutil.rmtree(damaged)

    def _written(self) -> contextlib.AbstractContextManager[None]:
        return said(
            f"the checkpoint of step {self._writing} cannot be written",
            "Those before it are whole. Make room or allow writing, and start again: the run goes "
            "on from there",
        )

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        Args:
          warn: takes a line about those that had to be passed over.

        Raises:
          UserError: when all are damaged, or one is of another program.
        """
        for _ in range(_TRIES):
            passed_over = []
            for step in reversed(self.steps()):
                try:
                    checkpoint = self._restore(step)
                except _DamagedError as error:
                    passed_over.append((step, error))
                    continue
                damaged = "; ".join(f"checkpoint {n} is damaged ({e})" for n, e in passed_over)
                if damaged:
                    warn(f"{self.folder}: {damaged}: {step} is taken instead")
                return checkpoint
            if all((self.folder / str(step)).is_dir() for step, _ in passed_over):
                break
            assert self._manager
            self._manager.reload()  # A running training has removed them, and has newer ones.
        if not passed_over:
            return None
        if all(isinstance(error, _ForeignError) for _, error in passed_over):
            step = passed_over[0][0]
            raise UserError(
                f"checkpoint {step} of {self.folder} is of another program: it has no record, and "
                f"holds {names_of_arrays(self.folder / str(step))}. Choose another --workdir."
            )
        damaged = "; ".join(f"checkpoint {n} is damaged ({e})" for n, e in passed_over)
        raise UserError(
            f"{self.folder} has no checkpoint that is whole: {damaged}. Bring back a copy, or "
            "choose another --workdir to start over."
        )

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

    def put_aside_after(self, step: int) -> None:
        """Renames the checkpoints of later steps, which were passed over as damaged."""
        assert self._manager
        with said(f"{self.folder} cannot be changed", "Allow writing, and start again"):
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
            forms = {path: _parse_form(form) for path, form in record["arrays"].items()}
            size = sum(dtype.itemsize * math.prod(shape) for dtype, shape in forms.values())
            on_disk = sum(p.stat().st_size for p in folder.rglob("*"))
            if size > _MAX_COMPRESSION * on_disk:
                raise _DamagedError(f"{on_disk} bytes cannot hold its arrays")
            arrays = {path: self._array(step, path, *form) for path, form in forms.items()}
            given = record.pop("sha256")
            if _digest(record, arrays) != given:
                raise _DamagedError("it does not match its SHA-256")
        except _DamagedError:
            raise
        except Exception as error:  # Orbax raises whatever it stumbles over.
            if is_passing(error):
                raise UserError(
                    f"checkpoint {step} of {self.folder} cannot be read now ({problem(error)}): "
                    "nothing is changed. Start again when it can."
                ) from error
            raise _DamagedError(f"it cannot be read: {problem(error)}") from error
        if record.get("format") != _FORMAT:
            raise UserError(
                f"checkpoint {step} of {self.folder} has the format {record.get('format')}: "
                f"allowed is {_FORMAT}. Use the version of this program that wrote it."
            )
        return Checkpoint(step, arrays, record)

    def _array(
        self, step: int, path: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        """One array; of many at once, in damaged files, Orbax prints what befell each of them."""
        assert self._manager
        # A file of another shape, however large it claims to be, is refused before it is read.
        form = ocp.ArrayRestoreArgs(
            restore_type=jax.Array,
            sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]),
            global_shape=shape,
            strict=True,
        )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    unflatten_dict({path: 0}, sep="."),
                    unflatten_dict({path: form}, sep="."),
                    partial_restore=True,
                )
            ),
        )
        array = np.asarray(flatten_dict(restored["state"], sep=".")[path])
        if (array.dtype, array.shape) != (dtype, shape):
            raise _DamagedError(f"{path} is {_form(array)}")
        return array


def _form(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}[{','.join(map(str, array.shape))}]"


def _parse_form(form: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """What `_form` wrote."""
    match = re.fullmatch(r"(\w+)\[([\d,]*)\]", form)
    if not match:
        raise _DamagedError(f"{form} is no form of an array")
    return np.dtype(match[1]), tuple(int(n) for n in match[2].split(",") if n)


def _difference(saved: Mapping[str, str], like: Any) -> str | None:
    needed = {p: _form(a) for p, a in flatten_dict(to_state_dict(like), sep=".").items()}
    for path in {**needed, **saved}:
        if saved.get(path) != needed.get(path):
            there, here = saved.get(path, "missing"), needed.get(path, "unknown")
            return f"{path} is {there} there and {here} here"
    return None


def _digest(record: Mapping[str, Any], arrays: Arrays) -> str:
    """SHA-256 over the record and the arrays' bytes in the order of their paths."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode())
    for path in sorted(arrays):
        digest.update(arrays[path].tobytes())
    return digest.hexdigest()
