"""Finds the newest intact checkpoint, reads it to the host, and verifies it by its SHA-256.

Orbax verifies its indices, but not the arrays: without the SHA-256 an array that has changed on
the disk would be restored with other values, and no error.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.errors import is_transient, short_message, translate_orbax_errors
from cnn_jax.checkpoint.tree import Arrays
from cnn_jax.errors import UserError

FORMAT = 2  # Raise it with each change after which older checkpoints cannot be resumed from.
_READ_ATTEMPTS = 20  # A running training may remove a checkpoint while another process reads it.


class DamagedError(Exception):
    """A checkpoint differs from what was saved; the message says how that was noticed."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint.

    Attributes:
      step: number of training steps before it was saved.
      arrays: all arrays, by their path in the tree, such as `params.conv_1.kernel`.
      metadata: the JSON object that was saved with them.
    """

    step: int
    arrays: Arrays
    metadata: Mapping[str, Any]

    def first_difference(self, like: Any) -> str | None:
        """Describes the first array that differs in dtype or shape from the one in another tree.

        Args:
          like: a tree of arrays or of their shapes.

        Returns:
          A clause for an error message, or None when there is no difference.
        """
        return tree.first_difference(tree.dtypes_and_shapes(self.arrays), like)

    def tree(self, like: Any) -> Any:
        """Returns the arrays in the structure of another tree.

        Args:
          like: a tree of arrays or of their shapes, for which `first_difference` returns None.
        """
        return tree.unflatten(self.arrays, like)


def list_steps(folder: Path) -> list[int]:
    """Returns the steps of the complete checkpoints in a folder, in ascending order.

    Raises:
      UserError: when the folder cannot be read.
    """
    advice = "it must be a readable folder. Change that, or choose another --workdir."
    with translate_orbax_errors(f"cannot open {folder}", advice):
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []
    # Orbax writes into a folder of another name, and renames it when it is complete.
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def newest_checkpoint(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Reads the newest intact checkpoint; never waits for another process.

    Args:
      folder: the folder `checkpoints` of a workdir; need not exist.
      warn: takes one line about newer checkpoints that are damaged, if there are any.

    Returns:
      The checkpoint, or None when the folder has no checkpoint at all.

    Raises:
      UserError: when no checkpoint is intact, or one that is read was saved by another version of
        cnn_jax or cannot be read at the moment.
    """
    for _ in range(_READ_ATTEMPTS):
        checkpoint, damages = None, []
        steps = list_steps(folder)
        for step in reversed(steps):
            try:
                checkpoint = _read(folder, step)
                break
            except DamagedError as error:
                damages.append(f"checkpoint {step} is damaged ({error})")
        # A running training that has removed the checkpoints meanwhile has written newer ones.
        if not damages or list_steps(folder) == steps:
            break
    if checkpoint and damages:
        warn(f"{folder}: {'; '.join(damages)}: using checkpoint {checkpoint.step} instead")
    elif damages:
        raise UserError(
            f"{folder} has no intact checkpoint: {'; '.join(damages)}. Restore a backup, or choose "
            "another --workdir to start from the beginning."
        )
    return checkpoint


def checkpoint_at(folder: Path, step: int) -> Checkpoint:
    """Reads the checkpoint of a step; never waits for another process.

    Raises:
      UserError: when it is missing or damaged, was saved by another version of cnn_jax, or cannot
        be read at the moment.
    """
    damage: DamagedError | None = None
    if step in list_steps(folder):
        try:
            return _read(folder, step)
        except DamagedError as error:
            damage = error
    steps = list_steps(folder)  # Again: a running training may have removed the checkpoint.
    if not steps:
        raise UserError(
            f"{folder} has no checkpoint: --workdir must be that of a training run. Choose another "
            "--workdir."
        )
    if step not in steps:
        raise UserError(
            f"{folder} has no checkpoint of step {step}: the step must be one of those saved "
            f"({', '.join(map(str, steps))}). Use one of them, or leave --step out to use the "
            "newest."
        )
    raise UserError(
        f"checkpoint {step} of {folder} is damaged ({damage}): it must be intact. Leave --step out "
        "to use the newest intact checkpoint."
    ) from damage


def set_aside_damaged(folder: Path, step: int) -> None:
    """Renames the checkpoints of later steps, which are damaged, to STEP.damaged.

    A `+` is added to the name where an earlier damaged checkpoint has it: nothing is deleted.

    Args:
      folder: the folder `checkpoints` of a workdir.
      step: of the newest intact checkpoint.

    Raises:
      UserError: when they cannot be renamed.
    """
    advice = "--workdir must be writable. Change permissions, and start again."
    with translate_orbax_errors(f"cannot rename damaged checkpoints in {folder}", advice):
        for later in list_steps(folder):
            if later > step:
                names = (f"{later}.damaged" + "+" * n for n in itertools.count())
                free = next(name for name in names if not (folder / name).exists())
                (folder / str(later)).rename(folder / free)


def _read(folder: Path, step: int) -> Checkpoint:
    """Reads a checkpoint, and verifies it.

    Raises:
      DamagedError: when it is not what was saved.
      UserError: when another version of cnn_jax saved it, or it cannot be read at the moment.
    """
    try:
        metadata, arrays = _read_items((folder / str(step)).absolute())  # As Orbax demands.
        saved_sha256 = metadata.pop("sha256")
        if tree.sha256_of(metadata, arrays) != saved_sha256:
            raise DamagedError("it does not match its SHA-256")
        if tree.dtypes_and_shapes(arrays) != metadata["arrays"]:
            raise DamagedError("its arrays have other dtypes or shapes")
    except DamagedError:
        raise
    except Exception as error:  # Orbax raises many types.
        if is_transient(error):
            raise UserError(
                f"cannot read checkpoint {step} of {folder} now ({short_message(error)}): its "
                "files must be readable. Nothing has been changed: start again when they are."
            ) from error
        raise DamagedError(f"it cannot be read: {short_message(error)}") from error
    if metadata["format"] != FORMAT:
        raise UserError(
            f"checkpoint {step} of {folder} was saved by another version of cnn_jax: its format is "
            f"{metadata['format']} instead of {FORMAT}. Choose another --workdir, or use the "
            "version of cnn_jax that saved it."
        )
    return Checkpoint(step, arrays, metadata)


def _read_items(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Returns the metadata and the arrays of the checkpoint in a folder."""
    import jax
    import orbax.checkpoint as ocp  # Takes 0.3 s, which a run without a workdir saves.

    if path / "metadata" not in path.iterdir():
        raise DamagedError(
            "it has no item `metadata`: that was deleted, or another program or version saved it"
        )
    metadata = ocp.JsonCheckpointHandler().restore(path / "metadata")
    this_process = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=this_process)
    arrays = {}
    # One by one: of all arrays in one call, Orbax would print a page about those it cannot read.
    for name in metadata["arrays"]:
        restored = handler.restore(
            path / "state",
            args=ocp.args.PyTreeRestore(
                unflatten_dict({name: 0}, sep="."),
                unflatten_dict({name: ocp.RestoreArgs(np.ndarray)}, sep="."),
                partial_restore=True,
            ),
        )
        arrays[name] = flatten_dict(restored, sep=".")[name]
    return metadata, arrays
