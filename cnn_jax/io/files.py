"""Files that tell whether they are whole: a SHA-256 in hexadecimal, and the bytes it is of."""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

_DIGEST_SIZE = 64
_LEFT_SECONDS = 3600.0  # What is unfinished for so long, nobody will finish.


def write(path: Path, parts: Sequence[bytes]) -> None:
    """Writes a file whole or not at all, and clears away what dead processes left of it.

    Args:
      path: the file; its folder must be there.
      parts: its contents, one after the other.

    Raises:
      OSError: when it cannot be written; a file that was there before stays.
    """
    for left in path.parent.glob(f"{path.name}.*.unfinished"):
        if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
            left.unlink(missing_ok=True)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            file.write(digest.hexdigest().encode())
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:  # A signal too: half a file is of no use to anybody.
        unfinished.unlink(missing_ok=True)
        raise


def read(path: Path) -> memoryview | None:
    """The contents of a file, or None where it is missing or not as it was written."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    digest, body = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
    return body if hashlib.sha256(body).hexdigest().encode() == digest else None
