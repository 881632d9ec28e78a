"""Finds out which format the file or folder of a data set has, by names and first bytes."""

import os
import zipfile
from pathlib import Path

from cnn_jax.data.formats import arrays, csv_pixels
from cnn_jax.data.formats.split import Found
from cnn_jax.errors import UserError
from cnn_jax.io.folders import local_folder


def detect(key: str, path: str) -> Found:
    """Finds the data set in a file or folder.

    Args:
      key: config key whose value the path is, for messages.
      path: the file or folder; a leading `~` is expanded.

    Raises:
      UserError: when there is none, or it has no known format.
    """
    if not path:
        raise UserError(
            f"{key}= is invalid: it must be a file or folder with dataset.name=files. Set {key}."
        )
    local = local_folder(key, path)
    try:
        status = local.stat()
        found = _detect_folder(local) if os.path.isdir(local) else _detect_file(local)
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot read {key}={path} ({reason}): it must be a readable file or folder. Change "
            f"{key}."
        ) from error
    if found is None:
        reason = "it is empty" if not status.st_size else "its format is not known"
        raise UserError(
            f"cannot use {key}={path} ({reason}): it must be one of those in docs/data.md: NumPy "
            f"arrays or a CSV of labels and pixels. Change {key}."
        )
    return found


def _detect_file(path: Path) -> Found | None:
    if not os.path.isfile(path):  # Opening a FIFO would wait for its writer.
        return None
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x93NUMPY"):
        return arrays.find_npy(path.parent)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(".npy") for name in archive.namelist()):
                return arrays.find_npz(path)
        return csv_pixels.find(path)
    if start and path.name.lower().removesuffix(".gz").endswith((".csv", ".txt")):
        return csv_pixels.find(path)
    return None


def _detect_folder(folder: Path) -> Found | None:
    return arrays.find_npy(folder)
