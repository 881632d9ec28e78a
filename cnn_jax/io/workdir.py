"""The folder of a run: a lock against concurrent runs, JSON files, and the rows of metrics."""

import contextlib
import json
import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from filelock import lock_descriptor, unlock_descriptor

from cnn_jax.errors import UserError
from cnn_jax.io.files import translate_write_errors, write_output
from cnn_jax.io.folders import local_folder


class Workdir:
    """A locked workdir; other runs cannot open it until it is closed.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Creates the folder if it does not exist, and locks it.

        Args:
          path: the folder; a leading `~` is expanded.

        Raises:
          UserError: if the path is no folder of this machine, the folder cannot be written, or
            another run has locked it.
        """
        self.path = local_folder("--workdir", path)
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError as error:  # Orbax cannot create files in such a folder.
            raise UserError(
                f"--workdir={os.fspath(path)!r} is invalid: it must be valid UTF-8. Choose another "
                "--workdir."
            ) from error
        with translate_write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.path)
        self._metrics = self.path / "metrics.jsonl"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        with contextlib.suppress(OSError):  # Where the file system has no locks.
            unlock_descriptor(self._lock.fileno())
        self._lock.close()

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON object to a file atomically.

        Args:
          name: name of the file in the workdir.
          content: the object; all numbers must be finite.

        Raises:
          UserError: if the file cannot be written.
        """
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_output(self.path / name, text.encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Returns the JSON object in a file, or None if the file is missing or holds no object.

        Args:
          name: name of the file in the workdir.
        """
        path = self.path / name
        try:
            content = json.loads(path.read_text("utf-8")) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a row to `metrics.jsonl`.

        Raises:
          UserError: if the file cannot be written.
        """
        with translate_write_errors(self._metrics), self._metrics.open("ab") as file:
            file.write((json.dumps(row, allow_nan=False) + "\n").encode())

    def metrics_size(self) -> int:
        """Returns the size of `metrics.jsonl` in bytes, after flushing it to the disk.

        Raises:
          UserError: if the file cannot be written.
        """
        if not self._metrics.exists():
            return 0
        with translate_write_errors(self._metrics), self._metrics.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def truncate_metrics(self, size: int) -> bool:
        """Truncates `metrics.jsonl` to `size` bytes, which removes the rows appended after that.

        Returns:
          False if the file is smaller than that; it is then unchanged.

        Raises:
          UserError: if the file cannot be written.
        """
        with translate_write_errors(self._metrics), self._metrics.open("ab") as file:
            if file.tell() < size:
                return False
            file.truncate(size)
        return True


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Returns the rows of a workdir's `metrics.jsonl`.

    Rows that are truncated, lack a field, or hold a number that is not finite are skipped. If the
    file cannot be read, there are no rows.
    """
    rows = []
    with contextlib.suppress(OSError):
        for line in (workdir / "metrics.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                row = json.loads(line)
                numbers = [float(row[name]) for name in ("step", "loss", "accuracy")]
                if isinstance(row["split"], str) and all(map(math.isfinite, numbers)):
                    rows.append(row)
    return rows


def _lock(folder: Path) -> BinaryIO:
    """Locks a folder and returns the open lock file; the lock of a dead process does not count.

    Raises:
      UserError: if another run has locked the folder.
    """
    file = (folder / ".lock").open("ab+")
    try:
        is_locked = lock_descriptor(file.fileno(), blocking=False)
    except OSError:
        # Some cluster file systems have no locks; there, users must avoid concurrent runs.
        return file
    if not is_locked:
        file.seek(1)  # On Windows the first byte is locked, and cannot be read either.
        holder = file.read(100).decode(errors="replace").strip() or "unknown"
        file.close()
        raise UserError(
            f"workdir {folder} is in use by another run ({holder}): only one run at a time must "
            "use it. Wait for that run, stop it, or choose another --workdir."
        )
    file.truncate(0)
    file.write(f"\nprocess {os.getpid()} on {socket.gethostname()}\n".encode())
    file.flush()
    return file
