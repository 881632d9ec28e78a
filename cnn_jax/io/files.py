"""Atomic writes, checksummed files, the cache folder, and the operating system's errors.

A file is complete or unchanged, whenever its writer dies. A checksummed file also tells whether its
content is intact: it begins with a SHA-256 of the rest, in hexadecimal digits.
"""

import contextlib
import glob
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cnn_jax.errors import UserError

_DIGEST_SIZE = 64
_STALE_SECONDS = 3600.0  # No process takes so long to write a file.


def write_atomically(path: Path, *parts: bytes) -> None:
    """Writes a file, and flushes it to the disk before it takes its name.

    Args:
      path: the file; its folder must exist.
      parts: its content, one part after the other.

    Raises:
      OSError: when it cannot be written; a file of that name stays as it was.
    """
    for stale in path.parent.glob(
        f"{glob.escape(path.name)}.*.tmp"
    ):  # Left by processes that died.
        if time.time() - stale.stat().st_mtime > _STALE_SECONDS:
            stale.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # A signal too: a truncated file is of no use to anybody.
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_output(path: Path, content: bytes) -> None:
    """Writes a file of a workdir atomically.

    Raises:
      UserError: when it cannot be written.
    """
    with translate_errors(path):
        write_atomically(path, content)


def write_checksummed(path: Path, *parts: bytes) -> None:
    """Writes a file atomically, with a SHA-256 of its content; arguments as `write_atomically`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    write_atomically(path, digest.hexdigest().encode(), *parts)


def read_checksummed(path: Path) -> memoryview | None:
    """Returns the content of a checksummed file, or None where it is missing or damaged."""
    try:
        whole = memoryview(path.read_bytes())
    except OSError:
        return None
    digest, content = whole[:_DIGEST_SIZE], whole[_DIGEST_SIZE:]
    return content if hashlib.sha256(content).hexdigest().encode() == digest else None


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turns an OSError while a workdir is written into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror or error}): --workdir must be a writable "
            "folder on a disk with free space. Free space or change permissions and start again, "
            "or choose another --workdir."
        ) from error


def cache_folder() -> Path:
    """The user's cache folder for this program: `$XDG_CACHE_HOME/cnn_jax` or `~/.cache/cnn_jax`."""
    base = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "")))
    if not base.is_absolute():  # The XDG specification has relative ones ignored.
        base = Path(os.path.expanduser("~/.cache"))
    return base / "cnn_jax"
