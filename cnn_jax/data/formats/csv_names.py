"""CSV files of file names and labels, or of file names alone, beside the pictures."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnn_jax.data.formats.arrays import label_error, to_labels
from cnn_jax.data.formats.csv_pixels import LABEL_NAMES, is_number
from cnn_jax.data.formats.pictures import PictureSplit
from cnn_jax.data.formats.split import UNKNOWN, Form, Found, Split, read_error
from cnn_jax.data.formats.text import read_lines
from cnn_jax.preprocessing.formats import load_formats
from cnn_jax.wording import pluralize

_FILE_NAMES = ("file", "files", "filename", "file_name", "path", "image", "image_path", "filepath")
_ADVICE = "Correct the line, or remove it."


def find(path: Path, needs_labels: bool = True) -> Found:
    """Returns the data set of a CSV file of file names and labels.

    A header, if there is one, names the two columns. Without it there are two columns, of which one
    has names of files; or one column, where no labels are needed.
    """
    rows = [next(csv.reader([line]), []) for line in read_lines(path, needs_labels)]
    while rows and not any(rows[-1]):
        rows.pop()
    first_line, file_column, label_column = _columns(path, rows, needs_labels)
    names, labels = [], []
    for number, row in enumerate(rows[first_line - 1 :], first_line):
        if len(row) != len(rows[0]):
            reason = f"it has {pluralize(len(row), 'column')}" if any(row) else "it has nothing"
            must = f"have {len(rows[0])}, as line 1"
            raise read_error(f"{path}, line {number}", reason, must, _ADVICE)
        name = row[file_column].strip()
        if not os.path.isfile(path.parent / name):
            must = f"be in the folder of that file, {path.parent}"
            reason = f"there is no file {name!r}"
            raise read_error(f"{path}, line {number}", reason, must, _ADVICE)
        names.append(name)
        if label_column is None:
            continue
        label = row[label_column].strip()
        if not label:
            raise read_error(f"{path}, line {number}", "its label is empty", "have one", _ADVICE)
        if is_number(label) and not float(label).is_integer():
            raise label_error(f"{path}, line {number}", label)
        labels.append(label)
    if not names:
        raise read_error(path, "it has no rows", "have a row for each picture", "Add rows.")
    load_formats()
    files = [path, *(path.parent / name for name in names)]
    format_name = "CSV of file names and labels" if needs_labels else "CSV of file names"
    return Found(format_name, files, lambda form: _open(path, names, labels, form))


def _open(
    path: Path, names: Sequence[str], labels: Sequence[str], form: Form
) -> Mapping[str, Split]:
    if not labels:
        label = np.full(len(names), UNKNOWN)
        return {"train": PictureSplit(path.parent, names, label, form)}
    is_numeric = all(map(is_number, labels))
    array = np.array([float(label) for label in labels] if is_numeric else labels)
    label, class_names = to_labels(f"{path}, column of labels", array)
    return {"train": PictureSplit(path.parent, names, label, form, class_names)}


def _columns(
    path: Path, rows: Sequence[Sequence[str]], needs_labels: bool
) -> tuple[int, int, int | None]:
    """Returns the number of the first line with an example, and the columns of file and label."""
    first = rows[0] if rows else []
    files = [column for column, cell in enumerate(first) if is_file_name(path, cell)]
    if files and len(first) == 2:
        return 1, files[0], 1 - files[0]
    names = [cell.strip().lower() for cell in first]
    # The first name that fits: a table of boxes has columns x and y, too.
    file_columns = [names.index(name) for name in _FILE_NAMES if name in names]
    label_columns = [names.index(name) for name in LABEL_NAMES if name in names]
    if file_columns and label_columns:
        return 2, file_columns[0], label_columns[0]
    if not needs_labels and (files or file_columns):
        return (1, files[0], None) if files else (2, file_columns[0], None)
    second = rows[1] if len(rows) > 1 else []
    files = [column for column, cell in enumerate(second) if is_file_name(path, cell)]
    if files and len(first) == 2:
        return 2, files[0], 1 - files[0]
    raise read_error(
        path,
        f"its first line is {','.join(first)[:80]!r}",
        "have the columns file and label, beside the pictures, or a label and pixels",
        "Name the columns in the first line.",
    )


def is_file_name(path: Path, cell: str) -> bool:
    """Returns whether a cell of a table names a file beside the table."""
    name = cell.strip()
    return bool(name) and os.path.isfile(path.parent / name)
