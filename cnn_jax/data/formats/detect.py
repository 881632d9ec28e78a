"""Finds out which format the file or folder of a data set has, by names and first bytes."""

import csv
import itertools
import os
import zipfile
from pathlib import Path

from cnn_jax.data.formats import arrays, cifar, csv_names, csv_pixels, idx_files, pictures, tables
from cnn_jax.data.formats.split import Found
from cnn_jax.data.formats.text import read_lines
from cnn_jax.errors import UserError
from cnn_jax.io.folders import local_folder

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


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
        found = find_folder(local) if os.path.isdir(local) else find_file(local)
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot read {key}={path} ({reason}): it must be a readable file or folder. Change "
            f"{key}."
        ) from error
    if found is None:
        reason = "it is empty" if not status.st_size else "its format is not known"
        if local.name.lower().endswith(_ARCHIVES):
            reason = "it is an archive, which must be unpacked first"
        raise UserError(
            f"cannot use {key}={path} ({reason}): it must be one of those in docs/data.md: "
            "pictures in a folder for each class, or a CSV, NumPy, Parquet, Arrow, IDX or binary "
            f"CIFAR file. Change {key}."
        )
    return found


def find_file(path: Path, needs_labels: bool = True) -> Found | None:
    """Finds the data set in a file; None: its format is not known, or it is a picture.

    Args:
      path: the file.
      needs_labels: whether a file without labels is an error.

    Raises:
      UserError: for a file of a known format that is damaged or invalid.
      OSError: where it cannot be read.
      zipfile.BadZipFile: for a damaged zip archive.
    """
    if not os.path.isfile(path):  # Opening a FIFO would wait for its writer.
        return None
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x93NUMPY"):
        return arrays.find_npy(path.parent) if needs_labels else arrays.find_images(path)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return arrays.find_npz(path, needs_labels)
        return _find_table(path, needs_labels)
    if tables.is_table(start):
        return tables.find_file(path, needs_labels)
    if found := idx_files.find_file(path, needs_labels) or cifar.find(path):
        return found
    if start and path.name.lower().removesuffix(".gz").endswith((".csv", ".txt")):
        return _find_table(path, needs_labels)
    return None


def _find_table(path: Path, needs_labels: bool = True) -> Found:
    """Returns the data set of a CSV file: of file names if its second line has one."""
    lines = list(itertools.islice(read_lines(path, needs_labels), 2))
    cells = next(csv.reader(lines[-1:]), [])
    has_name = any(csv_names.is_file_name(path, cell) for cell in cells)
    is_of_pixels = len(cells) >= csv_pixels.MIN_COLUMNS and not has_name
    find = csv_pixels.find if is_of_pixels else csv_names.find
    return find(path, needs_labels)


def find_folder(folder: Path, needs_labels: bool = True) -> Found | None:
    """Finds the data set in the files of a folder; see `find_file`."""
    if found := cifar.find(folder):
        return found
    for find in (arrays.find_npy, idx_files.find_folder, tables.find_folder):
        if found := find(folder, needs_labels):
            return found
    if table := _table_in(folder, needs_labels):
        return _find_table(table, needs_labels)
    return pictures.find_folders(folder)


def _table_in(folder: Path, needs_labels: bool) -> Path | None:
    """Returns the CSV file of a folder whose name says so, or which is the only one.

    Beside folders of several classes a file with another name may say anything.
    """
    files = sorted(folder.glob("*.csv"))
    names = ("labels.csv", "train.csv") if needs_labels else ("test.csv",)
    if named := [folder / name for name in names if folder / name in files]:
        return named[0]
    return files[0] if len(files) == 1 and not pictures.has_classes(folder) else None
