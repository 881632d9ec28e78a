"""The folder of a run: files that are whole or not there, and a lock that keeps others out."""

import contextlib
import fcntl
import json
import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from cnn_jax.errors import UserError
from cnn_jax.io.files import translate_errors, write_output


class Workdir:
    """An open workdir, which no other run can open until it is closed.

    Attributes:
      path: the folder.
    """

    def __init__(self, path: str) -> None:
        """Makes the folder if need be, and locks it.

        Raises:
          UserError: when it cannot be written, or another run has it.
        """
        self.path = Path(os.path.expanduser(path))
        try:
            path.encode()
        except UnicodeEncodeError as error:  # Orbax cannot name its files there.
            raise UserError(
                f"--workdir={path!r} is no UTF-8: allowed is a name that is. Choose another one."
            ) from error
        with translate_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.path)
        self._metrics = self.path / "metrics.jsonl"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._lock.close()  # Which unlocks it; so does the end of the process, whatever ends it.

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes `name`, whole or not at all."""
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        write_output(self.path / name, text.encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """What `name` holds, or None where it is missing or no object."""
        path = self.path / name
        try:
            content = json.loads(path.read_text()) if path.is_file() else None
        except (OSError, ValueError, RecursionError):
            return None
        return content if isinstance(content, dict) else None

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a line to `metrics.jsonl`."""
        with translate_errors(self._metrics), self._metrics.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def metrics_size(self) -> int:
        """Bytes of `metrics.jsonl`, all of which are on the disk when this returns."""
        if not self._metrics.exists():
            return 0
        with translate_errors(self._metrics), self._metrics.open("a") as file:
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def cut_metrics(self, size: int) -> bool:
        """Takes the rows from `metrics.jsonl` that were added after it had `size` bytes.

        Returns:
          Whether it had that many.
        """
        with translate_errors(self._metrics), self._metrics.open("a") as file:
            if file.tell() < size:
                return False
            file.truncate(size)
        return True


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The rows of a workdir's `metrics.jsonl`; what is none, such as half a row, is left out."""
    rows = []
    with contextlib.suppress(OSError):
        for line in (workdir / "metrics.jsonl").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                row = json.loads(line)
                numbers = [float(row[name]) for name in ("step", "loss", "accuracy")]
                if isinstance(row["split"], str) and all(map(math.isfinite, numbers)):
                    rows.append(row)
    return rows


def _lock(folder: Path) -> TextIO:
    """The lock as an open file; a process that has died holds none."""
    file = (folder / ".lock").open("a+", errors="replace")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read(100).strip() or "unknown"
        file.close()
        raise UserError(
            f"workdir {folder} is in use by another run ({holder}): allowed is one at a time. "
            "Wait for it, stop it, or choose another --workdir."
        ) from error
    except OSError:
        return file  # A file system without locks, as some clusters have: its users must take care.
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
