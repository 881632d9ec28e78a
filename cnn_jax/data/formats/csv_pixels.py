"""CSV files of labels and pixels, or of pixels alone: a line for each image."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.arrays import label_error
from cnn_jax.data.formats.split import (
    NUM_CHANNELS,
    UNKNOWN,
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
_ID_NAMES = ("id", "imageid", "image_id")
MIN_COLUMNS = 4  # 2x2 pixels. Fewer columns are names of files and labels.
_CHUNK_SIZE = 1000  # Lines parsed at once,
_MAX_CHUNK = 2**25  # or characters.
_ADVICE = "Correct the line, or remove it."


def find(path: Path, needs_labels: bool = True) -> Found:
    """Returns the data set of a CSV file of labels and pixels."""
    name = "CSV of labels and pixels" if needs_labels else "CSV of pixels"
    return Found(name, [path], lambda form: _open(path, form, needs_labels))


def _open(path: Path, form: Form, needs_labels: bool) -> Mapping[str, Split]:
    lines = read_lines(path, needs_labels)
    first = next(lines, "")
    header = [cell.strip().strip('"').lower() for cell in first.split(",")]
    has_header = not all(map(is_number, header))
    names = header if has_header else []
    has_pixels_alone = not needs_labels and _has_pixels_alone(names, len(header))
    shape = _image_shape(path, len(header) - 1 + has_pixels_alone)
    lines = lines if has_header else itertools.chain([first], lines)
    tables: list[npt.NDArray[np.uint8]] = []
    edges: list[npt.NDArray[np.float64]] = []  # First and last column: one may have the labels.
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
    column = None if has_pixels_alone else int(_label_is_last(path, names, edge))
    pixel = np.delete(edge, [] if column is None else column, axis=1)
    _check_pixels(path, pixel, first_line)
    left, right = np.split(pixel.astype(np.uint8), [int(column != 0)], axis=1)
    image = np.concatenate([left, np.concatenate(tables), right], axis=1).reshape(-1, *shape)
    label, ids = np.full(len(image), UNKNOWN), None
    if column is not None:
        label = _to_labels(path, edge[:, column], first_line)
    if column == 0 and names and names[0] in _ID_NAMES:
        if needs_labels:
            advice = "Name the first or the last column label."
            raise read_error(path, "its first column is an id", "have labels", advice)
        label, ids = np.full(len(image), UNKNOWN), label
    return {"train": ArraySplit(path, image, label, form, (), "line", first_line, ids)}


def is_number(cell: str) -> bool:
    """Returns whether a cell of a table is a number, NaN included, or empty."""
    try:
        float(cell.strip().strip('"') or "0")
    except ValueError:
        return False
    return True


def _has_pixels_alone(names: Sequence[str], num_columns: int) -> bool:
    """Returns whether there is neither a column of labels nor one of ids, by names and number."""
    is_named = any(name in (*LABEL_NAMES, *_ID_NAMES) for name in names)
    return not is_named and _square_shape(num_columns) is not None


def _square_shape(num_pixels: int) -> tuple[int, int, int] | None:
    for channels in NUM_CHANNELS:
        side = math.isqrt(num_pixels // channels)
        if side * side * channels == num_pixels:
            return side, side, channels
    return None


def _image_shape(path: Path, num_pixels: int) -> tuple[int, int, int]:
    if shape := _square_shape(num_pixels):
        return shape
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


def _to_labels(
    path: Path, label: npt.NDArray[np.float64], first_line: int
) -> npt.NDArray[np.int64]:
    if len(wrong := np.flatnonzero(~(np.floor(label) == label) | (np.abs(label) > 2**53))):
        row = int(wrong[0])
        raise label_error(f"{path}, line {first_line + row}", f"{label[row]:g}")
    return label.astype(np.int64)


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
        if not named and header[0] in _ID_NAMES:
            return False
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
