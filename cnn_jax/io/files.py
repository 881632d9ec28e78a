"""Files that tell whether they are whole: a SHA-256 in hexadecimal, and the bytes it is of."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from cnn_jax.errors import UserError

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


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Raises:
      UserError: when it cannot be written.
    """
    unfinished = path.with_name(path.name + ".tmp")
    with said(path):
        try:
            with unfinished.open("wb") as file:
                file.write(content)
                _to_disk(file)
            unfinished.replace(path)
        finally:
            with contextlib.suppress(OSError):  # It is there only where it could not be written.
                unfinished.unlink()


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def said(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into words."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}): allowed is a --workdir in a "
            "folder that can be written, on a disk with room. Make room or allow writing and start "
            "again, or choose another --workdir."
        ) from error


def cache_folder() -> Path:
    """The user's cache folder for this program: `$XDG_CACHE_HOME/cnn_jax` or `~/.cache/cnn_jax`."""
    base = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "")))
    if not base.is_absolute():  # The XDG specification has relative ones ignored.
        base = Path(os.path.expanduser("~/.cache"))
    return base / "cnn_jax"
