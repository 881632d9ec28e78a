"""A data set of people's own files: described, read whole, and read at random."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cnn_jax.data.file_set import FilePart, FileSet, Settings
from cnn_jax.data.formats.classes import check_classes
from cnn_jax.data.types import Examples
from cnn_jax.io.console import printable
from cnn_jax.io.files import read_checksummed, write_checksummed

NAME = "files"  # Value of `dataset.name`.

_opened: FileSet | None = None


@dataclasses.dataclass(frozen=True)
class Description:
    """Facts about a data set, without its images.

    Attributes:
      source: formats and numbers of examples, for people.
      warnings: what may be wrong with the data, for people.
      image_shape: (height, width, channels).
      class_names: name of each class, in the order of the labels.
      lengths: number of examples of each split.
      digest: SHA-256 of the files' contents, whatever their folder and their times.
    """

    source: str
    warnings: tuple[str, ...]
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    lengths: Mapping[str, int]
    digest: str


def display_name(name: str, *, path: str = "", **unused: object) -> str:
    """Returns the name of a data set for people.

    Args:
      name: value of `dataset.name`.
      path: value of `dataset.path`; empty but for `files`.
      unused: other fields of `config.dataset`.

    Returns:
      The last part of the path where there is one, in printable characters; else `name`.
    """
    absolute = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100 - Ends `..` as well.
    return printable(Path(absolute).name or absolute) if path else name


def open_files(settings: Settings) -> FileSet:
    """Finds the files of a data set; those of the last call stay open while they do not change."""
    global _opened
    found = FileSet(settings)
    if _opened is None or _opened.fingerprint != found.fingerprint:
        _opened = found
    return _opened


def close() -> None:
    """Frees the memory of the data set that was opened last."""
    global _opened
    _opened = None


def describe(file_set: FileSet, cache_path: Path | None, show_progress: bool) -> Description:
    """Describes a data set; from the cache, if no file has changed since it was last described.

    Args:
      file_set: from `open_files`.
      cache_path: file of the description; None: there is no cache.
      show_progress: whether to draw a progress bar on standard error while files are hashed.

    Raises:
      UserError: for files that are damaged or invalid.
    """
    content = read_checksummed(cache_path) if cache_path else None
    if content is not None and (known := _from_json(bytes(content), file_set.fingerprint)):
        return known
    parts = file_set.parts
    labels = parts["train"].label, parts["test"].label
    warnings = check_classes(file_set.settings.path, file_set.class_names, *labels)
    names = dict.fromkeys(("train", "test", *parts))
    lengths = {name: len(parts[name].label) for name in names}
    sizes = ", ".join(f"{count:,} {name}" for name, count in lengths.items())
    chosen = "" if file_set.has_test_part else " (a tenth, by a hash of each path or row)"
    description = Description(
        f"{file_set.formats}: {sizes}{chosen}",
        tuple(warnings),
        parts["train"].split.image_shape,
        file_set.class_names,
        lengths,
        file_set.content_sha256(show_progress),
    )
    if cache_path:
        fields = {"fingerprint": file_set.fingerprint, **dataclasses.asdict(description)}
        with contextlib.suppress(OSError):  # Later runs are only slower.
            cache_path.parent.mkdir(parents=True, exist_ok=True)
            write_checksummed(cache_path, json.dumps(fields).encode())
    return description


def _from_json(content: bytes, fingerprint: str) -> Description | None:
    """Returns a saved description; None if it is that of other files, or was not saved here."""
    try:
        fields = json.loads(content)
        if fields.pop("fingerprint") != fingerprint:
            return None
        for name in ("warnings", "image_shape", "class_names"):
            fields[name] = tuple(fields[name])
        return Description(**fields)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def read(part: FilePart, name: str, show_progress: bool) -> Examples:
    """Reads all examples of a part.

    Args:
      part: of a `FileSet`.
      name: its name, for the progress bar.
      show_progress: whether to draw a progress bar on standard error.

    Raises:
      UserError: for an image that cannot be read.
    """
    image = np.empty((len(part.label), *part.split.image_shape), np.uint8)
    options: dict[str, Any] = {"unit": " images", "disable": not show_progress, "leave": False}
    with tqdm(desc=f"Reading {name}", total=len(image), **options) as bar:
        start = 0
        for chunk in part.split.read_chunks(part.rows):
            image[start : start + len(chunk)] = chunk
            start += len(chunk)
            bar.update(len(chunk))
    return Examples(image, part.label)


class Reader:
    """Random access to the examples of one split.

    It can be pickled. The copy has no open files: it opens them at its first read.
    """

    def __init__(self, settings: Settings, split: str) -> None:
        self._settings = settings
        self._split = split
        self._part: FilePart | None = None

    def __reduce__(self) -> tuple[type["Reader"], tuple[Settings, str]]:
        return Reader, (self._settings, self._split)

    def open(self) -> int:
        """Opens the files if they are not open, and returns the number of examples."""
        if self._part is None:
            self._part = open_files(self._settings).parts[self._split]
        return len(self._part.label)

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples:
        """Reads some examples, in the order of `rows`: integers [N], 0..n-1."""
        self.open()
        assert self._part is not None
        return Examples(self._part.split.read(self._part.rows[rows]), self._part.label[rows])


def count_shared(train: npt.NDArray[np.uint8], test: npt.NDArray[np.uint8]) -> int:
    """Counts the test images, uint8 [N, H, W, C], that equal one of the training images."""
    seen = {hashlib.sha256(image).digest() for image in np.ascontiguousarray(train)}
    return sum(hashlib.sha256(image).digest() in seen for image in np.ascontiguousarray(test))
