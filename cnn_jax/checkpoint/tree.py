"""A tree of arrays as a flat dictionary: its paths, dtypes, shapes, differences and SHA-256."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

Arrays = dict[str, npt.NDArray[Any]]  # By their path in the tree, such as `params.conv_1.kernel`.


def flatten(tree: Any) -> Arrays:
    """Returns copies of a tree's arrays on the host, by their path.

    Args:
      tree: a tree of JAX or NumPy arrays, of any dtypes and shapes.
    """
    # On CPUs device_get returns JAX's own memory, which the next training step overwrites.
    flat = flatten_dict(to_state_dict(jax.device_get(tree)), sep=".")
    return {path: np.array(array) for path, array in flat.items()}


def unflatten(arrays: Arrays, like: Any) -> Any:
    """Returns arrays in the structure of another tree.

    Args:
      arrays: by their path. `first_difference` of their dtypes and shapes must be None.
      like: the tree with the structure, of arrays or of their shapes.
    """
    flat = flatten_dict(to_state_dict(like), keep_empty_nodes=True, sep=".")
    return from_state_dict(like, unflatten_dict(flat | arrays, sep="."))


def dtype_and_shape(array: Any) -> str:
    """Returns the dtype and shape of an array as text, such as `float32[3,3,1,8]`."""
    return f"{np.dtype(array.dtype).name}[{','.join(map(str, array.shape))}]"


def dtypes_and_shapes(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Returns the dtype and shape of each array, or of each shape, by its path."""
    return {path: dtype_and_shape(array) for path, array in arrays.items()}


def first_difference(saved: Mapping[str, str], like: Any) -> str | None:
    """Describes the first array that is missing, superfluous, or of another dtype or shape.

    Args:
      saved: dtype and shape of each saved array, by its path.
      like: the needed tree, of arrays or of their shapes.

    Returns:
      A clause such as `params.linear_1.bias is float32[10] in the checkpoint and must be
      float32[26]`, or None when there is no difference.
    """
    needed = dtypes_and_shapes(flatten_dict(to_state_dict(like), sep="."))
    for path in {**needed, **saved}:
        if saved.get(path) != needed.get(path):
            is_saved, must_be = saved.get(path, "missing"), needed.get(path, "absent")
            return f"{path} is {is_saved} in the checkpoint and must be {must_be}"
    return None


def sha256_of(metadata: Mapping[str, Any], arrays: Arrays) -> str:
    """Computes a SHA-256 of a checkpoint.

    Args:
      metadata: a JSON object; its keys are sorted first.
      arrays: their bytes follow, in the order of their paths.

    Returns:
      64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True, allow_nan=False).encode())
    for path in sorted(arrays):
        digest.update(arrays[path].tobytes())
    return digest.hexdigest()
