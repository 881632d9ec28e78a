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
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import numpy.typing as npt
import orbax.checkpoint as ocp
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

from cnn_jax.errors import UserError

KEPT = 3  # Checkpoints; where the newest is damaged, the one before it takes its place.
_FORMAT = 1  # Raise it whenever a checkpoint of before could not be gone on with.

Arrays = dict[str, npt.NDArray[Any]]


class _DamagedError(Exception):
    """A checkpoint is not what was saved; the message says why that is known."""


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
        self._manager = None
        self._writing: int | None = None
        if read_only and not self.folder.is_dir():
            return
        with _said(f"{self.folder} cannot be used"):
            if not read_only:
                self.folder.mkdir(exist_ok=True)
            self._manager = ocp.CheckpointManager(
                self.folder.absolute(),
                item_handlers={
                    "state": ocp.PyTreeCheckpointHandler(),
                    "record": ocp.JsonCheckpointHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=None if read_only else KEPT,
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
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
        """Waits until everything is written.

        Raises:
          UserError: when it cannot be; earlier checkpoints stay as they are.
        """
        assert self._manager
        with self._written():
            self._manager.wait_until_finished()

    def _written(self) -> contextlib.AbstractContextManager[None]:
        return _said(f"the checkpoint of step {self._writing} cannot be written")

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None where there is none at all.

        Args:
          warn: takes a line about those that had to be passed over.

        Raises:
          UserError: when all are damaged, or one is of another program.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                checkpoint = self._restore(step)
            except _DamagedError as error:
                damaged.append(f"checkpoint {step} is damaged ({error})")
                continue
            if damaged:
                warn(f"{self.folder}: {'; '.join(damaged)}: {step} is taken instead")
            return checkpoint
        if damaged:
            raise UserError(
                f"{self.folder} has no checkpoint that is whole: {'; '.join(damaged)}. Bring back "
                "a copy, or delete the workdir to start over."
            )
        return None

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

    def forget_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps, which were passed over as damaged."""
        assert self._manager
        for later in self.steps():
            if later > step:
                with _said(f"checkpoint {later} of {self.folder} cannot be deleted"):
                    self._manager.delete(later)

    def _restore(self, step: int) -> Checkpoint:
        assert self._manager
        if not (self.folder / str(step) / "record").is_dir():
            raise UserError(
                f"checkpoint {step} of {self.folder} is of another program: it has no record, and "
                f"holds {_names(self.folder / str(step))}. Choose another --workdir."
            )
        try:
            record = self._manager.restore(
                step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
            )["record"]
            arrays = {path: self._array(step, path) for path in record["arrays"]}
            given = record.pop("sha256")
            if {path: _form(array) for path, array in arrays.items()} != record["arrays"]:
                raise _DamagedError("its arrays have another form than they had")
            if _digest(record, arrays) != given:
                raise _DamagedError("it does not match its SHA-256")
        except _DamagedError:
            raise
        except Exception as error:  # Orbax raises whatever it stumbles over.
            raise _DamagedError(f"it cannot be read: {_problem(error)}") from error
        if record.get("format") != _FORMAT:
            raise UserError(
                f"checkpoint {step} of {self.folder} has the format {record.get('format')}: "
                f"allowed is {_FORMAT}. Use the version of this program that wrote it."
            )
        return Checkpoint(step, arrays, record)

    def _array(self, step: int, path: str) -> npt.NDArray[Any]:
        """One array; of many at once, in damaged files, Orbax prints what befell each of them."""
        assert self._manager
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    unflatten_dict({path: 0}, sep="."),
                    # As NumPy arrays: wherever they were saved, they can be had everywhere.
                    unflatten_dict({path: ocp.RestoreArgs(restore_type=np.ndarray)}, sep="."),
                    partial_restore=True,
                )
            ),
        )
        return np.asarray(flatten_dict(restored["state"], sep=".")[path])


def _form(array: Any) -> str:
    return f"{np.dtype(array.dtype).name}[{','.join(map(str, array.shape))}]"


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


def _names(folder: Path) -> str:
    """What the arrays of anybody's checkpoint are called, in words."""
    names: list[str] = []
    for item in sorted(path for path in folder.iterdir() if path.is_dir()):
        with contextlib.suppress(Exception), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as one:
            tree = one.metadata(item.absolute()).item_metadata.tree
            leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: hasattr(leaf, "name"))
            names += [leaf.name for leaf in leaves]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "no arrays"


def _problem(error: Exception) -> str:
    """An error in a few words; of the stories that TensorStore tells only the end matters."""
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    if match := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(match[1]))
    return text.splitlines()[0].partition(" [")[0].rpartition(": ")[2][:100]


@contextlib.contextmanager
def _said(what: str) -> Iterator[None]:
    """Turns whatever Orbax raises into words."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what} ({_problem(error)}): those before it are whole. Make room or allow writing, "
            "and start again: the run goes on from there."
        ) from error
