"""A tree of arrays as a flat dictionary, for saving: paths, forms, what differs, a digest."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

Arrays = dict[str, npt.NDArray[Any]]  # By their path in the tree, as in `params.conv_1.kernel`.


def flatten(tree: Any) -> Arrays:
    """Copies of a tree's arrays."""
    # On CPUs JAX hands out its own memory, which the next step overwrites: hence copies.
    flat = flatten_dict(to_state_dict(jax.device_get(tree)), sep=".")
    return {path: np.array(array) for path, array in flat.items()}


def unflatten(arrays: Arrays, like: Any) -> Any:
    """The arrays in the form of a tree; there must be no `difference`."""
    flat = flatten_dict(to_state_dict(like), keep_empty_nodes=True, sep=".")
    return from_state_dict(like, unflatten_dict(flat | arrays, sep="."))


def dtype_and_shape(array: Any) -> str:
    """Type and shape, as in `float32[3,3,1,8]`."""
    return f"{np.dtype(array.dtype).name}[{','.join(map(str, array.shape))}]"


def parse_dtype_and_shape(text: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """What `form` wrote.

    Raises:
      ValueError: when it is something else.
    """
    match = re.fullmatch(r"(\w+)\[([\d,]*)\]", text)
    if not match:
        raise ValueError(f"{text} is no form of an array")
    return np.dtype(match[1]), tuple(int(n) for n in match[2].split(",") if n)


def first_difference(saved: Mapping[str, str], like: Any) -> str | None:
    """The first array that two trees do not have in common, in words.

    Args:
      saved: forms by path.
      like: a tree of arrays or of their shapes.
    """
    needed = {p: dtype_and_shape(a) for p, a in flatten_dict(to_state_dict(like), sep=".").items()}
    for path in {**needed, **saved}:
        if saved.get(path) != needed.get(path):
            there, here = saved.get(path, "missing"), needed.get(path, "unknown")
            return f"{path} is {there} there and {here} here"
    return None


def sha256_of(record: Mapping[str, Any], arrays: Arrays) -> str:
    """SHA-256 over the record and the arrays' bytes in the order of their paths."""
    digest = hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode())
    for path in sorted(arrays):
        digest.update(arrays[path].tobytes())
    return digest.hexdigest()


def num_bytes(text: str) -> int:
    """Of an array of this form."""
    dtype, shape = parse_dtype_and_shape(text)
    return dtype.itemsize * math.prod(shape)
