"""Restores one checkpoint, and verifies it by its SHA-256.

Orbax verifies its indices, but not the arrays: without the SHA-256 an array that has changed on
the disk would be restored with other values, and no error.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from cnn_jax.checkpoint import tree
from cnn_jax.checkpoint.errors import is_transient, short_message
from cnn_jax.checkpoint.tree import Arrays
from cnn_jax.errors import UserError

FORMAT = 2  # Raise it with each change after which older checkpoints cannot be resumed from.

# Noise, and floats other than zero, are compressed by a tenth at most. A ratio beyond this comes
# from a file made to fill the memory.
_MAX_COMPRESSION = 100


class DamagedError(Exception):
    """A checkpoint differs from what was saved; the message says how that was noticed."""


class ForeignError(DamagedError):
    """A checkpoint has no metadata: a part of it was deleted, or another program saved it."""


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
        saved = {path: tree.dtype_and_shape(array) for path, array in self.arrays.items()}
        return tree.first_difference(saved, like)

    def tree(self, like: Any) -> Any:
        """Returns the arrays in the structure of another tree.

        Args:
          like: a tree of arrays or of their shapes, for which `first_difference` returns None.
        """
        return tree.unflatten(self.arrays, like)


def restore_checkpoint(manager: ocp.CheckpointManager, folder: Path, step: int) -> Checkpoint:
    """Restores a checkpoint to the host, and verifies it.

    Args:
      manager: opened on the folder.
      folder: the folder `checkpoints` of a workdir.
      step: number of the checkpoint.

    Raises:
      DamagedError: when it is not what was saved.
      ForeignError: when it has no metadata.
      UserError: when another version of cnn_jax saved it, or it cannot be read at the moment.
    """
    try:
        _check_items(folder, step)
        metadata, arrays = _read_verified(manager, folder, step)
    except (DamagedError, UserError):
        raise
    except Exception as error:  # Orbax raises many types.
        if is_transient(error):
            raise UserError(
                f"cannot read checkpoint {step} of {folder} now ({short_message(error)}): its "
                "files must be readable. Nothing has been changed: start again when they are."
            ) from error
        raise DamagedError(f"it cannot be read: {short_message(error)}") from error
    if (saved_format := metadata.get("format")) != FORMAT:
        reason = f"its format is {saved_format} instead of {FORMAT}"
        raise _version_error(folder, step, "another version", reason)
    return Checkpoint(step, arrays, metadata)


def _check_items(folder: Path, step: int) -> None:
    """Checks that a checkpoint has metadata; `_read_verified` notices missing arrays."""
    if (folder / str(step) / "metadata").is_dir():
        return
    if (folder / str(step) / "record").is_dir():
        reason = "it has an item `record` instead of `metadata`"
        raise _version_error(folder, step, "an earlier version", reason)
    raise ForeignError("it has no metadata")


def _version_error(folder: Path, step: int, version: str, reason: str) -> UserError:
    return UserError(
        f"checkpoint {step} of {folder} was saved by {version} of cnn_jax: {reason}. Choose "
        "another --workdir, or use the version of cnn_jax that saved it."
    )


def _read_verified(
    manager: ocp.CheckpointManager, folder: Path, step: int
) -> tuple[Mapping[str, Any], tree.Arrays]:
    """Reads the metadata and all arrays, and compares their SHA-256 with the saved one."""
    restored = manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore()))
    metadata = restored["metadata"]
    dtypes_and_shapes = metadata["arrays"]
    memory = sum(map(tree.num_bytes, dtypes_and_shapes.values()))
    on_disk = sum(path.stat().st_size for path in (folder / str(step)).rglob("*"))
    if memory > _MAX_COMPRESSION * on_disk:
        raise DamagedError(f"{on_disk} bytes cannot hold its arrays")
    arrays = {path: _read_array(manager, step, path, t) for path, t in dtypes_and_shapes.items()}
    saved_sha256 = metadata.pop("sha256")
    if tree.sha256_of(metadata, arrays) != saved_sha256:
        raise DamagedError("it does not match its SHA-256")
    return metadata, arrays


def _read_array(
    manager: ocp.CheckpointManager, step: int, path: str, dtype_and_shape: str
) -> npt.NDArray[Any]:
    """Reads one array to the host.

    Orbax could read all arrays in one call, but prints a message for each one that is damaged.

    Args:
      manager: opened on the folder of the checkpoint.
      step: number of the checkpoint.
      path: the array's path in the tree.
      dtype_and_shape: what the metadata says about the array.

    Raises:
      DamagedError: when the array has another dtype or shape.
    """
    # With `strict`, a file that claims another shape, however large, is refused before it is read.
    restore_args = ocp.ArrayRestoreArgs(
        restore_type=jax.Array,
        sharding=jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
        global_shape=tree.parse_dtype_and_shape(dtype_and_shape)[1],
        strict=True,
    )
    restored = manager.restore(
        step,
        args=ocp.args.Composite(
            state=ocp.args.PyTreeRestore(
                unflatten_dict({path: 0}, sep="."),
                unflatten_dict({path: restore_args}, sep="."),
                partial_restore=True,
            )
        ),
    )
    array = np.asarray(flatten_dict(restored["state"], sep=".")[path])
    if (restored_as := tree.dtype_and_shape(array)) != dtype_and_shape:
        raise DamagedError(f"{path} is {restored_as} instead of {dtype_and_shape}")
    return array
