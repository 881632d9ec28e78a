"""IDX files of any names, sizes and counts, such as those of EMNIST and QMNIST."""

import gzip
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.arrays import to_labels
from cnn_jax.data.formats.split import (
    NUM_CHANNELS,
    SPLITS,
    UNKNOWN,
    ArraySplit,
    Form,
    Found,
    Split,
    check_memory,
    check_packed_size,
    read_error,
)

# By the third byte of a file (http://yann.lecun.com/exdb/mnist/); big-endian.
_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_DIMENSIONS = 4
_MAX_FILES = 1000  # A folder with more is none of IDX files.
_MUST = "be a whole IDX file"
_AGAIN = "Get the file again from where you have it."


class _Header(NamedTuple):
    """Dtype and shape of a file's array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def is_of_images(self) -> bool:
        return self.dtype == np.uint8 and len(self.shape) >= 3


def find_file(path: Path, needs_labels: bool = True) -> Found | None:
    """Returns the data set of a file of images, whose labels lie beside it; None: it is no IDX."""
    header = _read_header(path)
    if header is None:
        return None
    if not header.is_of_images:
        shape = "x".join(map(str, header.shape))
        must = "be a file of images, [N, height, width] of unsigned bytes"
        advice = "Name the file of the images."
        raise read_error(path, f"it has {shape} values of {header.dtype}", must, advice)
    return _found({"train": path}, _headers(path.parent) | {path: header}, needs_labels)


def find_folder(folder: Path, needs_labels: bool = True) -> Found | None:
    """Returns the data set of a folder of IDX files, or None where it has none of images."""
    headers = _headers(folder)
    images: dict[str, Path] = {}
    for path in (path for path, header in headers.items() if header.is_of_images):
        split = _split_of(path)
        if other := images.get(split):
            reason = f"its files {other.name} and {path.name} are both images of the {split} part"
            advice = "Name one with dataset.path, and another one with dataset.test_path."
            raise read_error(folder, reason, "have one file of each part", advice)
        images[split] = path
    if not images:
        return None
    parts = images if "train" in images else {"train": min(images.values())}
    return _found(parts, headers, needs_labels)


def _found(
    images: Mapping[str, Path], headers: Mapping[Path, _Header], needs_labels: bool
) -> Found:
    labels = {split: _find_labels(path, headers, needs_labels) for split, path in images.items()}

    def open_splits(form: Form) -> Mapping[str, Split]:
        return {split: _open(path, labels[split], headers, form) for split, path in images.items()}

    return Found("IDX", [*images.values(), *filter(None, labels.values())], open_splits)


def _split_of(path: Path) -> str:
    words = re.split(r"[^a-z0-9]+", path.name.lower())
    return next(
        (SPLITS[word] for word in words if word in SPLITS), "test" if "t10k" in words else "train"
    )


def _find_labels(images: Path, headers: Mapping[Path, _Header], needs_labels: bool) -> Path | None:
    """Returns the file of as many labels as there are images, by its name if there are several."""
    count = headers[images].shape[0]
    candidates = [
        path
        for path, header in headers.items()
        if path.parent == images.parent and len(header.shape) <= 2 and header.shape[0] == count
    ]
    named = [path for path in candidates if _stem(path) == _stem(images)]
    chosen = named if len(named) == 1 else candidates
    if not chosen and not needs_labels:
        return None
    if len(chosen) != 1:
        have = ", ".join(path.name for path in chosen[:3]) or "none"
        reason = f"files of {count:,} labels beside it: {have}"
        must, advice = "have one of a similar name", "Put it there, or rename it."
        raise read_error(images, reason, must, advice)
    return chosen[0]


def _stem(path: Path) -> str:
    """Returns what the names of two files that belong together share."""
    return re.sub(r"images?|labels?|idx\d|ubyte|int|gz|[^a-z0-9]", "", path.name.lower())


def _headers(folder: Path) -> dict[Path, _Header]:
    """Returns the header of each IDX file in a folder, sorted by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if len(files) > _MAX_FILES:
        return {}
    headers = ((path, _read_header(path)) for path in files if not path.name.startswith("."))
    return {path: header for path, header in headers if header}


def _read_header(path: Path) -> _Header | None:
    """Reads the header of a file; None: it is no IDX file."""
    try:
        with _open_packed(path) as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES:
                return None
            if not 1 <= start[3] <= _MAX_DIMENSIONS:
                return None
            sizes = file.read(4 * start[3])
            shape = struct.unpack(f">{start[3]}I", sizes)
    except (OSError, EOFError, zlib.error, struct.error):
        return None
    return _Header(np.dtype(_DTYPES[start[2]]), shape)


def _open_packed(path: Path) -> Any:
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_packed else path.open("rb")


def _read(path: Path, header: _Header) -> npt.NDArray[Any]:
    """Reads a file's array, and no more than its header declares."""
    size = int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    check_packed_size(path, size, path.stat().st_size)
    check_memory(path, size)
    try:
        with _open_packed(path) as file:
            file.read(4 + 4 * len(header.shape))
            values = file.read(size)
            more = file.read(1)  # At its end, gzip checks the CRC.
    except EOFError as error:
        raise read_error(path, "it is truncated", _MUST, _AGAIN) from error
    except (OSError, zlib.error) as error:
        raise read_error(path, f"it is damaged: {error}", _MUST, _AGAIN) from error
    if len(values) < size:
        reason = f"it is truncated: {len(values):,} of {size:,} bytes"
        raise read_error(path, reason, _MUST, _AGAIN)
    if more:
        raise read_error(path, f"it has data after its {size:,} bytes", _MUST, _AGAIN)
    return np.frombuffer(values, header.dtype).reshape(header.shape)


def _open(images: Path, labels: Path | None, headers: Mapping[Path, _Header], form: Form) -> Split:
    image = headers[images]
    shape = image.shape if len(image.shape) == 4 else (*image.shape, 1)
    if shape[3] not in NUM_CHANNELS or 0 in shape:
        given = "x".join(map(str, image.shape))
        must = "be [N, height, width] or [N, height, width, 1 or 3], without an empty axis"
        raise read_error(images, f"its shape is {given}", must, "Name another file.")
    image_u8 = _read(images, image).reshape(shape)
    if labels is None:
        return ArraySplit(images, image_u8, np.full(len(image_u8), UNKNOWN), form)
    numbers = _read(labels, headers[labels])
    if numbers.ndim == 2:  # QMNIST's; the other columns tell the writer.
        numbers = numbers[:, :1]
    return ArraySplit(images, image_u8, to_labels(str(labels), numbers)[0], form)
