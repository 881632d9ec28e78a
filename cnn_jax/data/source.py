"""Random access to the examples on disk, for data sets that are larger than memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnn_jax.data import digits, files, prepared
from cnn_jax.data.array_record import Records
from cnn_jax.data.datasets import describe, prepare
from cnn_jax.data.file_set import Settings
from cnn_jax.data.types import Examples, Info, Part
from cnn_jax.errors import UserError


class _SplitReader(Protocol):
    """Random access to the examples of one split."""

    def open(self) -> int: ...

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples: ...


class Source:
    """Random access to the training examples, followed by the test examples.

    It can be pickled and read in another process; each process opens the files for itself.

    Attributes:
      image_shape: (height, width, channels).
    """

    def __init__(self, info: Info, splits: Mapping[str, _SplitReader]) -> None:
        """Concatenates the parts of the splits.

        Args:
          info: parts that make up the training examples and the test examples.
          splits: reader of each split that occurs in the parts.
        """
        self.image_shape = info.image_shape
        self._parts: Sequence[Part] = info.train + info.test
        self._splits = splits
        # Index of the first example of each part, and the total number.
        self._starts = np.cumsum([0, *(part.stop - part.start for part in self._parts)])

    def __len__(self) -> int:
        """Number of training and test examples together."""
        return int(self._starts[-1])

    def open(self) -> None:
        """Opens the files now instead of at the first read.

        The first call imports TFDS, which replaces Python's import function for all threads while
        it is imported. No other thread may import anything during that time.

        Raises:
          UserError: if the folder of the data set is damaged.
        """
        for split in self._splits.values():
            split.open()

    def read(self, indices: npt.NDArray[np.integer[Any]]) -> Examples:
        """Reads and decodes some examples.

        Args:
          indices: integers [N], 0..len-1, in any order, with repetition. Indices 0..num_train-1 are
            training examples, those from num_train on are test examples.

        Returns:
          N examples, in the order of `indices`.

        Raises:
          IndexError: if an index is not in 0..len-1.
          UserError: if records are missing or damaged.
        """
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{indices.min()}..{indices.max()} is not in 0..{len(self) - 1}")
        image = np.empty((len(indices), *self.image_shape), np.uint8)
        label = np.empty(len(indices), np.int32)
        part_indices = np.searchsorted(self._starts, indices, side="right") - 1
        for part_index in np.unique(part_indices):
            part = self._parts[part_index]
            selected = part_indices == part_index
            rows = indices[selected].astype(np.int64) - self._starts[part_index] + part.start
            examples = self._splits[part.split].read(rows)
            image[selected], label[selected] = examples.image, examples.label
        return Examples(image, label)


class _DigitsReader:
    """A split of `digits`, which is small enough for each process to decode all of it."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._examples: Examples | None = None

    def __reduce__(self) -> tuple[type["_DigitsReader"], tuple[str]]:
        return _DigitsReader, (self._split,)

    def open(self) -> int:
        if self._examples is None:
            self._examples = digits.read(self._split)
        return len(self._examples.label)

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples:
        self.open()
        assert self._examples is not None
        return Examples(self._examples.image[rows], self._examples.label[rows])


def open_source(
    name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    show_progress: bool = False,
    **others: Any,
) -> Source:
    """Opens a data set for random access, without reading its images.

    The source has the same examples in the same order as `load` with the same arguments: its
    training examples, followed by its test examples.

    Args:
      name: name of the data set; prepared if necessary, as by `load`.
      data_dir: TFDS's data folder; empty: TFDS's default.
      manual_dir: folder with the four original files; empty: download them. Only read if the data
        set is not prepared yet.
      train_split: training examples, in TFDS's syntax, such as `train[:50000]`.
      test_split: test examples, in the same syntax.
      show_progress: whether preparing the data set draws progress bars on standard error.
      others: other fields of `config.dataset`; for `files`, those of `Settings`.

    Raises:
      UserError: if the data set is unknown, cannot be prepared or read, or a split is invalid.
    """
    info = describe(
        name,
        data_dir=data_dir,
        train_split=train_split,
        test_split=test_split,
        show_progress=show_progress,
        **others,
    )
    names = {part.split for part in info.train + info.test}
    if name == "digits":
        return Source(info, {split: _DigitsReader(split) for split in names})
    if name == files.NAME:
        settings = Settings.of(others)
        return Source(info, {split: files.Reader(settings, split) for split in names})
    if not prepared.can_read():
        raise UserError(
            "dataset.feed=stream is not available here, nor are several processes: they need the "
            "package array_record, which TFDS installs on Linux alone. Use dataset.feed=device, "
            "and a part of the data, such as dataset.train_split=train[:10%], if they do not fit "
            "into memory."
        )
    folder = prepare(name, data_dir, manual_dir, show_progress)
    return Source(info, {split: Records(folder, split) for split in names})
