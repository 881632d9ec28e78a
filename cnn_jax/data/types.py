"""Types of the data package: examples, data sets, and descriptions of data sets."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images with their labels, in memory.

    Attributes:
      image: uint8 [N, H, W, C], 0..255.
      label: int32 [N], 0..K-1.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Part:
    """The examples start..stop-1 of a split, in the order in which TFDS stores them.

    Attributes:
      split: name of the split, such as `train`.
      start: index of the first example.
      stop: index after the last example.
    """

    split: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Info:
    """Description of a data set, available without downloading it or reading its images.

    Attributes:
      image_shape: (height, width, channels).
      class_names: name of each class, in the order of the labels.
      train: parts that are concatenated to the training examples.
      test: parts that are concatenated to the test examples.
      source: of a data set of files: their formats and numbers of examples, for people.
      warnings: of a data set of files: what may be wrong with them, for people.
      digest: of a data set of files: SHA-256 of their contents.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train: tuple[Part, ...]
    test: tuple[Part, ...]
    source: str = ""
    warnings: tuple[str, ...] = ()
    digest: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return sum(part.stop - part.start for part in self.train)

    @property
    def num_test(self) -> int:
        """Number of test examples."""
        return sum(part.stop - part.start for part in self.test)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The training examples and the test examples of a run, in memory."""

    train: Examples
    test: Examples

    def read(self, indices: npt.NDArray[np.integer[Any]]) -> Examples:
        """Returns a copy of some examples; has the same interface as `Source.read`.

        Args:
          indices: integers [N], in any order, with repetition. Indices 0..num_train-1 are training
            examples, those from num_train on are test examples.

        Returns:
          N examples, in the order of `indices`.
        """
        num_train = len(self.train.label)
        image = np.empty((len(indices), *self.train.image.shape[1:]), np.uint8)
        label = np.empty(len(indices), np.int32)
        for examples, selected, start in (
            (self.train, indices < num_train, 0),
            (self.test, indices >= num_train, num_train),
        ):
            rows = indices[selected] - start
            image[selected], label[selected] = examples.image[rows], examples.label[rows]
        return Examples(image, label)
