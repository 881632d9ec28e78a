"""Atomic writes, checksummed files, and the error of a failed write.

An atomic write leaves either the old file or the new one, never a part, even if its process dies.
A checksummed file starts with the SHA-256 of the rest, in hexadecimal digits; reading it tells
whether the content is intact.
"""

import contextlib
import glob
import hashlib
import os
import time
from pathlib import Path

from cnn_jax.errors import translate_errors

_DIGEST_SIZE = 64
_STALE_SECONDS = 3600.0  # No process takes this long to write a file.
_REPLACE_SECONDS = 1.0  # Within which a reader should have closed its file.


def write_atomically(path: Path, *parts: bytes) -> None:
    """Writes a file under a temporary name, flushes it to the disk, and renames it.

    Args:
      path: the file; its folder must exist.
      parts: contents of the file, concatenated.

    Raises:
      OSError: if the file cannot be written; an existing file of that name is then unchanged.
    """
    # Processes that died may have left temporary files.
    for stale in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
            stale.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:  # Also on a stop signal: nobody can use a truncated file.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _replace(temporary: Path, path: Path) -> None:
    """Renames a file, which on Windows fails while another process reads the file to be replaced.

    Raises:
      OSError: if the file cannot be renamed within a second.
    """
    deadline = time.monotonic() + _REPLACE_SECONDS
    while True:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def write_output(path: Path, content: bytes) -> None:
    """Writes a file of a workdir atomically.

    Raises:
      UserError: if the file cannot be written.
    """
    with translate_write_errors(path):
        write_atomically(path, content)


def write_checksummed(path: Path, *parts: bytes) -> None:
    """Writes a file atomically, preceded by the SHA-256 of its content.

    Args:
      path: the file; its folder must exist.
      parts: contents of the file, concatenated.

    Raises:
      OSError: if the file cannot be written; an existing file of that name is then unchanged.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    write_atomically(path, digest.hexdigest().encode(), *parts)


def read_checksummed(path: Path) -> memoryview | None:
    """Returns the content of a checksummed file, or None if it is missing or damaged."""
    try:
        data = memoryview(path.read_bytes())
    except OSError:
        return None
    digest, content = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None


def translate_write_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turns an OSError that is raised while a file or folder of a workdir is written."""
    return translate_errors(
        f"cannot write {path}",
        "--workdir must be a writable folder on a disk with free space. Free space or change "
        "permissions and start again, or choose another --workdir.",
    )
