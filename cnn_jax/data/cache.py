"""Caches decoded splits on disk, so that later runs need not decode 70,000 PNG files again.

Each split is one checksummed file: a line of JSON with the fingerprint of the original data and the
shape of the images, then the bytes of the images, then the bytes of the labels. `load` treats a
damaged file, or one that was made from other data, like a missing one.
"""

import contextlib
import json
import math
from pathlib import Path

import numpy as np

from cnn_jax.data.types import Examples
from cnn_jax.io import files

_MAX_HEADER_SIZE = 1000
_FORMAT = 1  # Increase it when this format, or the decoding of any data set, changes.


def load(path: Path, fingerprint: str) -> Examples | None:
    """Reads a split from the cache.

    Args:
      path: the cache file.
      fingerprint: fingerprint of the data from which the arrays would be decoded.

    Returns:
      The examples, or None if the file is missing, damaged, or made from other data.
    """
    content = files.read_checksummed(path)
    if content is None:
        return None
    try:
        header_size = bytes(content[:_MAX_HEADER_SIZE]).index(b"\n") + 1
        header = json.loads(bytes(content[:header_size]))
        if (header["format"], header["fingerprint"]) != (_FORMAT, fingerprint):
            return None
        shape = tuple(header["image_shape"])
        label_start = header_size + math.prod(shape)
        image = np.frombuffer(content[header_size:label_start], np.uint8).reshape(shape)
        label = np.frombuffer(content[label_start:], "<i4").reshape(len(image)).astype(np.int32)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None  # Intact, but not written by `save`.
    return Examples(image, label)


def save(path: Path, fingerprint: str, examples: Examples) -> None:
    """Writes a split to the cache atomically.

    If the file cannot be written, nothing happens: later runs are only slower.

    Args:
      path: the cache file; its folder is created if it does not exist.
      fingerprint: fingerprint of the data from which the arrays were decoded.
      examples: all examples of the split.
    """
    header = {
        "format": _FORMAT,
        "fingerprint": fingerprint,
        "image_shape": examples.image.shape,
    }
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_checksummed(
            path,
            json.dumps(header).encode() + b"\n",
            examples.image.tobytes(),
            examples.label.astype("<i4").tobytes(),
        )
