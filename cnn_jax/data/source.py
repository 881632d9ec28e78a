"""The examples of a data set one by one, read where they lie: for sets larger than memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cnn_jax.data import digits
from cnn_jax.data.array_record import Records
from cnn_jax.data.datasets import describe, prepare
from cnn_jax.data.types import Examples, Info, Part


class _Rows(Protocol):
    """Random access to one split of TFDS."""

    def open(self) -> int: ...

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples: ...


class Source:
    """Random access to the training examples and, after them, the test examples.

    Can be pickled, to be read in another process; each process opens the files for itself.

    Attributes:
      image_shape: (height, width, channels).
    """

    def __init__(self, info: Info, splits: Mapping[str, _Rows]) -> None:
        """Joins parts of splits.

        Args:
          info: which parts make up the training examples and the test examples.
          splits: each split that has a part in them.
        """
        self.image_shape = info.image_shape
        self._parts: Sequence[Part] = info.train + info.test
        self._splits = splits
        # Where each part starts, and where the last one ends.
        self._starts = np.cumsum([0, *(part.stop - part.start for part in self._parts)])

    def __len__(self) -> int:
        """Number of training and test examples together."""
        return int(self._starts[-1])

    def open(self) -> None:
        """Opens the files now and not with the first read; see `Records.open`.

        Raises:
          UserError: when the folder is damaged.
        """
        for split in self._splits.values():
            split.open()

    def read(self, indices: npt.NDArray[np.integer[Any]]) -> Examples:
        """Reads and decodes some examples.

        Args:
          indices: integers [N], 0..len-1; in any order, and any of them as often as one likes.
            From `num_train` on they mean the test examples.

        Returns:
          N examples, in that order.

        Raises:
          IndexError: when an index is not in 0..len-1.
          UserError: when records are missing or damaged.
        """
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{indices.min()}..{indices.max()} is not in 0..{len(self) - 1}")
        image = np.empty((len(indices), *self.image_shape), np.uint8)
        label = np.empty(len(indices), np.int32)
        part_numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(part_numbers):
            part = self._parts[number]
            chosen = part_numbers == number
            rows = indices[chosen].astype(np.int64) - self._starts[number] + part.start
            found = self._splits[part.split].read(rows)
            image[chosen], label[chosen] = found.image, found.label
        return Examples(image, label)


class _InMemorySplit:
    """A split of `digits`: small enough to be decoded whole, in each process anew."""

    def __init__(self, split: str) -> None:
        self._split = split
        self._whole: Examples | None = None

    def __reduce__(self) -> tuple[type["_InMemorySplit"], tuple[str]]:
        return _InMemorySplit, (self._split,)

    def open(self) -> int:
        if self._whole is None:
            self._whole = digits.read(self._split)
        return len(self._whole.label)

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples:
        self.open()
        assert self._whole is not None
        return Examples(self._whole.image[rows], self._whole.label[rows])


def open_source(
    name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    show_progress: bool = False,
    **unused: object,
) -> Source:
    """Prepares a data set, if need be, without reading its images; arguments as in `load`.

    Row i of what `Source.read` reads is row i of the training examples of `load` with, after them,
    its test examples.

    Raises:
      UserError: when the data set cannot be had, or a split is wrong.
    """
    info = describe(name, data_dir=data_dir, train_split=train_split, test_split=test_split)
    names = {part.split for part in info.train + info.test}
    if name == "digits":
        return Source(info, {split: _InMemorySplit(split) for split in names})
    folder = prepare(name, data_dir, manual_dir, show_progress)
    return Source(info, {split: Records(folder, split) for split in names})
