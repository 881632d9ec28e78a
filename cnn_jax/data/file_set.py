"""Finds and opens the files of a data set, and divides their examples into parts."""

import contextlib
import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from cnn_jax.data.formats.classes import number_classes, read_label_names
from cnn_jax.data.formats.detect import detect
from cnn_jax.data.formats.split import Form, Split
from cnn_jax.errors import UserError, short_reason, translate_errors

_ANY_NAME = ("utf-8", "surrogateescape")  # Encodes file names that are not in UTF-8, too.
_TEST_SHARE = 10  # One example in so many is for the test where there is no test part.
_BUFFER_SIZE = 2**16  # Bytes; most pictures have fewer, and are read at once.
_VERSION = 1  # Increase it when the reading of any format changes.


@dataclasses.dataclass(frozen=True)
class Settings:
    """The keys of `config.dataset` that say which files are read, and how.

    Attributes:
      path: file or folder of the examples.
      test_path: of the test examples, where they are files of their own.
      channels: 1: grey, 3: RGB, 0: as the files are.
      image_size: height and width, or one number for both, in pixels; 0: as the files are.
      transpose: whether rows and columns of the images are exchanged.
      label_names: file with the name of a class a line; empty: there is none.
    """

    path: str = ""
    test_path: str = ""
    channels: int = 0
    image_size: tuple[int, ...] = (0,)
    transpose: bool = False
    label_names: str = ""

    @classmethod
    def of(cls, dataset: Mapping[str, Any]) -> "Settings":
        """Returns the settings among all fields of `config.dataset`."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: dataset[name] for name in names if name in dataset})


@dataclasses.dataclass(frozen=True)
class FilePart:
    """The examples that a part of a data set takes from a split of the files.

    Attributes:
      split: the split of the files.
      rows: int64 [N], the examples that are taken from it, ascending.
      label: int32 [N], 0..K-1, of these.
    """

    split: Split
    rows: npt.NDArray[np.int64]
    label: npt.NDArray[np.int32]


class FileSet:
    """A data set of files. Only the attributes `parts` and `class_names` open them.

    Attributes:
      settings: which files it has.
      formats: their formats, for people.
      fingerprint: SHA-256 of the settings and the names, sizes and times of the files.
    """

    def __init__(self, settings: Settings) -> None:
        """Finds the files.

        Raises:
          UserError: for files that are missing, or of no known format.
        """
        self.settings = settings
        self._found = [detect("dataset.path", settings.path)]
        if settings.test_path:
            self._found.append(detect("dataset.test_path", settings.test_path))
        self.formats = " and ".join(dict.fromkeys(found.format for found in self._found))
        folders = [Path(path).absolute() for path in (settings.path, settings.test_path)]
        facts = f"{_VERSION} {version('pillow')} {folders} {settings}"
        digest = hashlib.sha256(facts.encode(*_ANY_NAME))
        paths = [path for found in self._found for path in found.files]
        if settings.label_names:
            paths.append(Path(os.path.expanduser(settings.label_names)))
        with _translate_read_errors():
            for path in paths:
                status = os.stat(path)  # noqa: PTH116 - As below.
                line = f"{path}|{status.st_size}|{status.st_mtime_ns}\n"
                digest.update(line.encode(*_ANY_NAME))
        self.fingerprint = digest.hexdigest()
        self._content_sha256 = ""

    def content_sha256(self, show_progress: bool) -> str:
        """Returns a SHA-256 of the files' names in their folder and contents, classes and settings.

        Args:
          show_progress: whether to draw a progress bar on standard error, at the first call.
        """
        if not self._content_sha256:
            total = sum(len(found.files) for found in self._found)
            options: dict[str, Any] = {
                "unit": " files",
                "disable": not show_progress,
                "leave": False,
            }
            with tqdm(desc="Hashing", total=total, **options) as bar:
                self._content_sha256 = self._hash_contents(bar)
        return self._content_sha256

    def _hash_contents(self, bar: tqdm) -> str:
        form, names = _form(self.settings), self.class_names
        digest = hashlib.sha256(f"{form} {names}".encode(*_ANY_NAME))
        for found in self._found:
            # Not of pathlib, which is slower: there may be 100,000 files.
            paths = [os.path.abspath(path) for path in found.files]  # noqa: PTH100
            folders = {os.path.dirname(path) for path in paths}  # noqa: PTH120
            is_on_one_drive = len({os.path.splitdrive(folder)[0] for folder in folders}) == 1
            common = os.path.commonpath(folders) if is_on_one_drive else ""
            for path in paths:
                name = path[len(common) :] if len(paths) > 1 else ""
                digest.update(f"{name}|{_sha256_of(path)}\n".encode(*_ANY_NAME))
                bar.update()
        return digest.hexdigest()

    @property
    def has_test_part(self) -> bool:
        """Whether the files have test examples of their own."""
        return "test" in self._splits

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the labels."""
        return self._numbered[0]

    @functools.cached_property
    def parts(self) -> dict[str, FilePart]:
        """The parts by their names, `train` and `test` among them.

        Raises:
          UserError: for files that are damaged or invalid.
        """
        splits, labels = self._splits, self._numbered[1]
        parts = {}
        for name, split in splits.items():
            _check_shape(splits["train"], name, split)
            parts[name] = FilePart(split, np.arange(len(split.label)), labels[name])
        if not self.has_test_part:
            is_test = _choose_tenth(splits["train"])
            for name, chosen in (("train", ~is_test), ("test", is_test)):
                rows = np.flatnonzero(chosen)
                parts[name] = FilePart(splits["train"], rows, labels["train"][rows])
        return parts

    @functools.cached_property
    def _splits(self) -> dict[str, Split]:
        form = _form(self.settings)
        splits = dict(self._found[0].open(form))
        if self.settings.test_path:
            given = f"dataset.test_path={self.settings.test_path}"
            splits["test"] = choose_test(given, self._found[1].open(form))
        return splits

    @functools.cached_property
    def _numbered(self) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int32]]]:
        return number_classes(self._splits, read_label_names(self.settings.label_names))


def _translate_read_errors() -> contextlib.AbstractContextManager[None]:
    return translate_errors(
        "cannot read a file of the data set",
        "all must be readable. Change that.",
        reason=lambda error: f"{short_reason(error)}: {getattr(error, 'filename', '')}",
    )


def _sha256_of(path: str) -> str:
    with _translate_read_errors(), open(path, "rb") as file:  # noqa: PTH123
        start = file.read(_BUFFER_SIZE)
        if len(start) < _BUFFER_SIZE:
            return hashlib.sha256(start).hexdigest()
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _form(settings: Settings) -> Form:
    height, width = settings.image_size[0], settings.image_size[-1]
    return Form(settings.channels, (height, width) if height else None, settings.transpose)


def choose_test(given: str, splits: Mapping[str, Split]) -> Split:
    """Returns the split that has the test examples: `test`, or the only one.

    Args:
      given: the key or flag that names the files, and its value.
      splits: by their names.

    Raises:
      UserError: if there are several, and none is `test`.
    """
    if "test" in splits:
        return splits["test"]
    if len(splits) > 1:
        raise UserError(
            f"{given} is invalid (it has {', '.join(splits)}): it must have test examples. Name "
            "another file or folder."
        )
    return next(iter(splits.values()))


def _check_shape(train: Split, name: str, split: Split) -> None:
    if split.image_shape != train.image_shape:
        shapes = ["x".join(map(str, part.image_shape)) for part in (split, train)]
        raise UserError(
            f"cannot use {split.where(0)} (the images of the {name} part are {shapes[0]}): they "
            f"must be {shapes[1]}, as those of the training part. Set dataset.image_size, or "
            "dataset.channels."
        )


def _choose_tenth(split: Split) -> npt.NDArray[np.bool_]:
    """Chooses about a tenth of the examples, at least one, each by a hash of its path or row.

    An example stays in its part whatever other examples are added.
    """
    if (count := len(split.label)) < 2:
        raise UserError(
            f"cannot use {split.where(0)} (it is the only example): there must be at least two. "
            "Add examples."
        )
    keys = (split.key(row).encode(*_ANY_NAME) for row in range(count))
    values = np.array([int.from_bytes(hashlib.sha256(key).digest()[:4], "big") for key in keys])
    is_test: npt.NDArray[np.bool_] = values % _TEST_SHARE == 0
    return is_test if is_test.any() and not is_test.all() else values == values.min()
