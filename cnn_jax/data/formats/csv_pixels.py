"""CSV files of labels and pixels: a line for each image."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.arrays import label_error
from cnn_jax.data.formats.split import (
    NUM_CHANNELS,
    ArraySplit,
    Form,
    Found,
    Split,
    check_memory,
    read_error,
)
from cnn_jax.data.formats.text import read_lines
from cnn_jax.wording import pluralize

LABEL_NAMES = ("label", "labels", "class", "classid", "class_id", "category", "target", "y")
MIN_COLUMNS = 5  # A label and 2x2 pixels. Fewer columns are names of files and labels.
_CHUNK_SIZE = 1000  # Lines parsed at once,
_MAX_CHUNK = 2**25  # or characters.
_ADVICE = "Correct the line, or remove it."


def find(path: Path) -> Found:
    """Returns the data set of a CSV file of labels and pixels."""
    return Found("CSV of labels and pixels", [path], lambda form: _open(path, form))


def _open(path: Path, form: Form) -> Mapping[str, Split]:
    lines = read_lines(path)
    first = next(lines, "")
    header = [cell.strip().strip('"').lower() for cell in first.split(",")]
    has_header = not all(map(is_number, header))
    shape = _image_shape(path, len(header) - 1)
    lines = lines if has_header else itertools.chain([first], lines)
    tables: list[npt.NDArray[np.uint8]] = []
    edges: list[npt.NDArray[np.float64]] = []  # First and last column: one has the labels.
    line_number = first_line = 1 + has_header
    for chunk in _chunks(lines):
        table = _parse(path, chunk, len(header), line_number)
        # Wrong pixels in the first or last column are found when it is known to be no label.
        _check_pixels(path, table[:, 1:-1], line_number)
        tables.append(table[:, 1:-1].astype(np.uint8))
        edges.append(table[:, [0, -1]])
        line_number += len(chunk)
        check_memory(path, line_number * math.prod(shape))  # For the joined tables.
    if not tables:
        raise read_error(path, "it has no rows", "have a row for each image", "Add rows.")
    edge = np.concatenate(edges)
    is_last = _label_is_last(path, header if has_header else [], edge)
    label, pixel = (edge[:, 1], edge[:, :1]) if is_last else (edge[:, 0], edge[:, 1:])
    _check_labels(path, label, first_line)
    _check_pixels(path, pixel, first_line)
    columns = [np.concatenate(tables), pixel.astype(np.uint8)]
    image = np.concatenate(columns[::-1] if is_last else columns, axis=1).reshape(-1, *shape)
    split = ArraySplit(path, image, label.astype(np.int64), form, (), "line", first_line)
    return {"train": split}


def is_number(cell: str) -> bool:
    """Returns whether a cell of a table is a number, NaN included, or empty."""
    try:
        float(cell.strip().strip('"') or "0")
    except ValueError:
        return False
    return True


def _image_shape(path: Path, num_pixels: int) -> tuple[int, int, int]:
    for channels in NUM_CHANNELS:
        side = math.isqrt(num_pixels // channels)
        if side * side * channels == num_pixels:
            return side, side, channels
    raise read_error(
        path,
        f"its first line has {num_pixels + 1:,} columns",
        "have a label and the pixels of a square image, such as 1 + 28 x 28 columns",
        "Save images of other shapes as .npz.",
    )


def _chunks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Yields lines by the thousand, without the empty ones at the end of the file."""
    chunk: list[str] = []
    size = empty = 0
    for line in lines:
        if not line.strip():
            empty += 1
            continue
        chunk += [""] * empty + [line]
        size, empty = size + len(line), 0
        if len(chunk) >= _CHUNK_SIZE or size > _MAX_CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _parse(
    path: Path, lines: Sequence[str], num_columns: int, first_line: int
) -> npt.NDArray[np.float64]:
    """Parses some rows: float64 [N, num_columns]."""
    try:
        table = np.loadtxt(lines, np.float64, None, ",", ndmin=2, quotechar='"')
        if table.shape == (len(lines), num_columns):
            return table
    except (ValueError, OverflowError):
        pass
    for number, line in enumerate(lines, first_line):
        cells = line.split(",")
        if len(cells) != num_columns:
            columns = pluralize(len(cells), "column") if line.strip() else "nothing"
            must = f"have {num_columns:,} columns, as line 1"
            raise read_error(f"{path}, line {number}", f"it has {columns}", must, _ADVICE)
        for column, cell in enumerate(cells, 1):
            if not cell.strip() or not is_number(cell):
                reason = f"column {column} has {cell!r}"
                must = "have whole numbers alone"
                raise read_error(f"{path}, line {number}", reason, must, _ADVICE)
    raise read_error(path, "its rows cannot be parsed", "have whole numbers alone", _ADVICE)


def _check_pixels(path: Path, table: npt.NDArray[np.float64], first_line: int) -> None:
    is_pixel = (table >= 0) & (table <= 255) & (table == np.floor(table))  # NaN: False.
    if not is_pixel.all():
        row = int(np.flatnonzero(~is_pixel.all(axis=1))[0])
        raise read_error(
            f"{path}, line {first_line + row}",
            f"it has the pixel {table[row][~is_pixel[row]][0]:g}",
            "have whole numbers from 0 to 255",
            _ADVICE,
        )


def _check_labels(path: Path, label: npt.NDArray[np.float64], first_line: int) -> None:
    if len(wrong := np.flatnonzero(~(np.floor(label) == label) | (np.abs(label) > 2**53))):
        row = int(wrong[0])
        raise label_error(f"{path}, line {first_line + row}", f"{label[row]:g}")


def _label_is_last(path: Path, header: Sequence[str], edge: npt.NDArray[np.float64]) -> bool:
    """Returns whether the labels are the last column, not the first.

    Args:
      path: the file, for the message.
      header: names of the columns, in lower case; empty: there are none. Then the labels are last
        if only the last column has all numbers from 0 or 1 to its largest, at least two: corners of
        images are mostly all 0.
      edge: [N, 2], the first and the last column.
    """
    if header:
        named = [index for index, name in enumerate(header) if name in LABEL_NAMES]
        if named in ([0], [len(header) - 1]):
            return named != [0]
        if named:
            columns = ", ".join(str(index + 1) for index in named)
            must = "have one column of labels, the first or the last"
            raise read_error(path, f"its header names column {columns}", must, "Move it.")
    are_labels = [_are_labels(column) for column in edge.T]
    return are_labels == [False, True]


def _are_labels(column: npt.NDArray[np.float64]) -> bool:
    values = np.unique(column)
    return len(values) > 1 and bool(
        values[0] in (0, 1) and np.array_equal(values, values[0] + np.arange(len(values)))
    )
