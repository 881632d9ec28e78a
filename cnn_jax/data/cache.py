"""Decoded arrays on disk, so that a second start need not unpack and decode 70,000 pictures.

One file per split: the SHA-256 of all that follows, in hexadecimal; a line of JSON that says what
was cached and the arrays' shapes; the bytes of images and labels. A file that does not match its
digest, or was made from something else, is not there as far as `load` is concerned.
"""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path

import numpy as np

from cnn_jax.data.split import Split

_DIGEST_SIZE = 64
_FORMAT = 1  # Raise it whenever the decoding of any data set changes.


def folder() -> Path:
    """The user's cache folder for this program: `$XDG_CACHE_HOME/cnn_jax` or `~/.cache/cnn_jax`."""
    base = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "")))
    if not base.is_absolute():  # The XDG specification has relative ones ignored.
        base = Path(os.path.expanduser("~/.cache"))
    return base / "cnn_jax"


def load(path: Path, fingerprint: str) -> Split | None:
    """Reads a split, or returns None when the file is missing, stale or damaged.

    Args:
      path: the file.
      fingerprint: of what the arrays were decoded from.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, body = content[:_DIGEST_SIZE], memoryview(content)[_DIGEST_SIZE:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        return None
    header_size = content.index(b"\n", _DIGEST_SIZE) + 1 - _DIGEST_SIZE
    header = json.loads(bytes(body[:header_size]))
    if (header.get("format"), header.get("fingerprint")) != (_FORMAT, fingerprint):
        return None
    shape = tuple(header["image_shape"])
    image_size = math.prod(shape)
    image = np.frombuffer(body, np.uint8, image_size, header_size).reshape(shape)
    label = np.frombuffer(body[header_size + image_size :], "<i4").astype(np.int32)
    return Split(image, label)


def save(path: Path, fingerprint: str, split: Split) -> None:
    """Writes a split whole or not at all; a folder that cannot be written costs only the cache."""
    header = {
        "format": _FORMAT,
        "fingerprint": fingerprint,
        "image_shape": split.image.shape,
    }
    parts = [
        json.dumps(header).encode() + b"\n",
        split.image.tobytes(),
        split.label.astype("<i4").tobytes(),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.write(digest.hexdigest().encode())
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:  # A signal too: half a file is of no use to anybody.
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError:
        return
