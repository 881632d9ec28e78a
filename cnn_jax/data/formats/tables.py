"""Parquet and Arrow files with a column of pictures, as Hugging Face has them."""

import bisect
import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.arrays import to_labels
from cnn_jax.data.formats.csv_pixels import LABEL_NAMES
from cnn_jax.data.formats.pictures import PictureSplit
from cnn_jax.data.formats.split import (
    SPLITS,
    UNKNOWN,
    Form,
    Found,
    Split,
    check_memory,
    read_error,
)
from cnn_jax.errors import UserError
from cnn_jax.preprocessing.formats import load_formats

SUFFIXES = (".parquet", ".arrow", ".feather")
_IMAGE_NAMES = ("image", "images", "img", "picture", "png", "jpg")
_FINE_LABELS = (*LABEL_NAMES, "fine_label")
_CONTINUATION = b"\xff\xff\xff\xff"  # The first bytes of an Arrow stream.
_AGAIN = "Get the file again from where you have it."


def find_file(path: Path, needs_labels: bool = True) -> Found:
    """Returns the data set of a Parquet or Arrow file."""
    return _found({"train": [path]}, needs_labels)


def find_folder(folder: Path, needs_labels: bool = True) -> Found | None:
    """Returns the data set of the Parquet or Arrow files in a folder and its subfolders.

    Their names, or the names of their folders, say to which part they belong, as in
    `train-00000-of-00002.parquet`. None: there are no such files.
    """
    parts: dict[str, list[Path]] = {}
    paths = [
        Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    for path in sorted(paths):
        words = re.split(r"[^a-z0-9]+", f"{path.parent.name} {path.stem}".lower())
        split = next((SPLITS[word] for word in reversed(words) if word in SPLITS), "train")
        parts.setdefault(split, []).append(path)
    if not parts:
        return None
    return _found(parts if "train" in parts else {"train": min(parts.values())}, needs_labels)


def is_table(start: bytes) -> bool:
    """Returns whether a file starts as Parquet, an Arrow file or an Arrow stream."""
    return start.startswith((b"PAR1", b"ARROW1", _CONTINUATION))


def _found(parts: Mapping[str, Sequence[Path]], needs_labels: bool) -> Found:
    files = [path for paths in parts.values() for path in paths]
    kind = "Parquet" if files[0].suffix.lower() == ".parquet" else "Arrow"

    def open_splits(form: Form) -> Mapping[str, Split]:
        return {name: _open(paths, form, needs_labels) for name, paths in parts.items()}

    return Found(f"{kind} of pictures", files, open_splits)


class _Contents(Sequence[bytes]):
    """The contents of pictures, which stay in Arrow's memory."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return self._column[row].as_py()


@dataclasses.dataclass(frozen=True)
class _TableSplit(PictureSplit):
    """A split of the pictures in several files.

    Attributes:
      paths: the files.
      starts: the first row of each.
    """

    paths: Sequence[Path] = ()
    starts: Sequence[int] = ()

    def _item(self, row: int) -> tuple[str, Path | bytes]:
        index = bisect.bisect_right(self.starts, row) - 1
        content: Any = self.pictures[row]
        return f"{self.paths[index]}, row {row - self.starts[index]}", content


def _open(paths: Sequence[Path], form: Form, needs_labels: bool) -> Split:
    import pyarrow as pa  # Takes a fifth of a second.

    load_formats()
    images, labels, starts = [], [], [0]
    names: tuple[str, ...] = ()
    for path in paths:
        table = _read(path)
        where = f"{path}, columns {', '.join(table.column_names)}"
        image_name = _choose(where, table.column_names, _IMAGE_NAMES, "pictures")
        images.append(_to_contents(path, table[image_name]))
        if needs_labels or _find(table.column_names, _FINE_LABELS):
            label_name = _choose(where, table.column_names, _FINE_LABELS, "labels")
            labels.append(_to_array(path, label_name, table[label_name]))
            names = names or _class_names(table.schema.metadata, label_name)
        else:
            labels.append(np.full(len(table), UNKNOWN))
        starts.append(starts[-1] + len(table))
    if not starts[-1]:
        raise read_error(paths[0], "it has no rows", "have a row for each picture", "Add rows.")
    contents = pa.chunked_array([chunk for column in images for chunk in column.chunks])
    try:
        joined = np.concatenate(labels)
    except TypeError as error:  # Numbers and strings.
        must, advice = "have labels of one kind", _AGAIN
        raise read_error(paths[0], "its parts have other labels", must, advice) from error
    label, strings = to_labels(f"{paths[0]}, column of labels", joined)
    split = _TableSplit(
        paths[0], _Contents(contents), label, form, strings or names, paths, starts[:-1]
    )
    if names and not strings and len(wrong := np.flatnonzero((label < 0) | (label >= len(names)))):
        row = int(wrong[0])
        must = f"be from 0 to {len(names) - 1}, as the file names {len(names)} classes"
        advice = "Correct the label, or remove the row."
        raise read_error(split.where(row), f"its label is {label[row]}", must, advice)
    return split


def _read(path: Path) -> Any:
    """Reads a file as a table of Arrow."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(b"PAR1"):
            parquet = pyarrow.parquet.ParquetFile(path)
            groups = (parquet.metadata.row_group(i) for i in range(parquet.num_row_groups))
            check_memory(path, sum(group.total_byte_size for group in groups))
            return parquet.read()
        source = pa.memory_map(str(path))
        is_stream = start.startswith(_CONTINUATION)
        return (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(source).read_all()
    except UserError:
        raise
    except Exception as error:  # Arrow raises exceptions of many kinds.
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        must = "be a whole Parquet or Arrow file"
        raise read_error(path, f"it is damaged: {reason}", must, _AGAIN) from error


def _choose(where: str, columns: Sequence[str], names: Sequence[str], what: str) -> str:
    """Returns the first of the names that is one of the columns."""
    chosen = _find(columns, names)
    if chosen is None:
        must = f"have a column of {what}: {', '.join(names)}"
        raise read_error(where, f"none is of {what}", must, "Rename the column.")
    return chosen


def _find(columns: Sequence[str], names: Sequence[str]) -> str | None:
    by_lower_case = {column.lower(): column for column in columns}
    return next((by_lower_case[name] for name in names if name in by_lower_case), None)


def _to_contents(path: Path, column: Any) -> Any:
    """Returns a column of pictures as contents: binary, or the field `bytes` of a struct."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    is_binary = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    if not is_binary:
        must = "be binary, or a struct with the field bytes"
        raise read_error(
            f"{path}, column of pictures", f"its type is {column.type}", must, "Convert it."
        )
    _refuse_nulls(path, column, "picture")
    return column.cast(pa.large_binary())


def _refuse_nulls(path: Path, column: Any, what: str) -> None:
    if column.null_count:
        row = column.is_null().index(True).as_py()
        advice = "Add it, or remove the row."
        raise read_error(f"{path}, row {row}", f"it has no {what}", "have one", advice)


def _to_array(path: Path, name: str, column: Any) -> npt.NDArray[Any]:
    """Returns a column of labels as numbers or strings."""
    import pyarrow as pa

    _refuse_nulls(path, column, "label")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), np.str_)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(is_kind(column.type) for is_kind in kinds):
        where, must = f"{path}, column {name}", "be integers or strings"
        raise read_error(where, f"its type is {column.type}", must, "Convert it.")
    return np.array(column.to_pylist())


def _class_names(metadata: Mapping[bytes, bytes] | None, label_name: str) -> tuple[str, ...]:
    """Returns the names of the classes that Hugging Face's metadata have; empty: they have none."""
    try:
        content = json.loads((metadata or {})[b"huggingface"])
        names = content["info"]["features"][label_name]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else ()
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
