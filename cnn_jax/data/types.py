"""Images with their labels, as every other file of this package hands them on."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True)
class Examples:
    """A part of a data set, in memory.

    Attributes:
      image: uint8 [N, H, W, C], 0..255.
      label: int32 [N], 0..K-1.
    """

    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Part:
    """The examples start..stop-1 of a split, in the order in which TFDS stores them."""

    split: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Info:
    """What can be said of a data set before it is downloaded or read.

    Attributes:
      image_shape: (height, width, channels).
      class_names: what each label stands for.
      train: the parts that make up the training examples.
      test: the parts that make up the test examples.
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train: tuple[Part, ...]
    test: tuple[Part, ...]

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
    """The two sets of examples that a run uses."""

    train: Examples
    test: Examples

    def read(self, indices: npt.NDArray[np.integer[Any]]) -> Examples:
        """Some examples, the training examples first; as `Source.read`."""
        num_train = len(self.train.label)
        image = np.empty((len(indices), *self.train.image.shape[1:]), np.uint8)
        label = np.empty(len(indices), np.int32)
        for part, chosen, start in (
            (self.train, indices < num_train, 0),
            (self.test, indices >= num_train, num_train),
        ):
            rows = indices[chosen] - start
            image[chosen], label[chosen] = part.image[rows], part.label[rows]
        return Examples(image, label)
