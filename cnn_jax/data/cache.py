"""Decoded arrays on disk, so that a second start need not unpack and decode 70,000 pictures.

One sealed file per split: a line of JSON that says what was cached and the images' shape; the bytes
of images and labels. A file that is not whole, or was made from something else, is not there as far
as `load` is concerned.
"""

import contextlib
import json
import math
from pathlib import Path

import numpy as np

from cnn_jax.data.types import Examples
from cnn_jax.io import files

_MAX_HEADER = 1000
_FORMAT = 1  # Raise it whenever the decoding of any data set changes.


def load(path: Path, fingerprint: str) -> Examples | None:
    """Reads a split, or returns None when the file is missing, stale or damaged.

    Args:
      path: the file.
      fingerprint: of what the arrays were decoded from.
    """
    content = files.read_checksummed(path)
    if content is None:
        return None
    try:
        header_size = bytes(content[:_MAX_HEADER]).index(b"\n") + 1
        header = json.loads(bytes(content[:header_size]))
        if (header["format"], header["fingerprint"]) != (_FORMAT, fingerprint):
            return None
        shape = tuple(header["image_shape"])
        label_start = header_size + math.prod(shape)
        image = np.frombuffer(content[header_size:label_start], np.uint8).reshape(shape)
        label = np.frombuffer(content[label_start:], "<i4").reshape(len(image)).astype(np.int32)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None  # Whole, but nothing that `save` wrote.
    return Examples(image, label)


def save(path: Path, fingerprint: str, split: Examples) -> None:
    """Writes a split whole or not at all; a folder that cannot be written costs only the cache."""
    header = {
        "format": _FORMAT,
        "fingerprint": fingerprint,
        "image_shape": split.image.shape,
    }
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_checksummed(
            path,
            json.dumps(header).encode() + b"\n",
            split.image.tobytes(),
            split.label.astype("<i4").tobytes(),
        )
