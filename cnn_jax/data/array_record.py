"""Reads data sets that TFDS has prepared in the array_record format."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from cnn_jax.data.prepared import translate_read_errors
from cnn_jax.data.types import Examples
from cnn_jax.errors import UserError

_CHUNK_SIZE = 1000  # Records read at once: many enough for speed, few enough to show progress.


def _builder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    with translate_read_errors(folder):
        return tfds.builder_from_directory(folder)


def describe(folder: Path) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Reads the description of a data set.

    Returns:
      Shape of the images, (height, width, channels), and names of the classes.

    Raises:
      UserError: if the data set does not consist of uint8 images of one size with one label each.
    """
    import tensorflow_datasets as tfds

    features = _builder(folder).info.features
    by_name = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = by_name.get("image"), by_name.get("label")
    if not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"data set {folder} is invalid: it must have the features `image` and `label`, and "
            "the label must be a class. Change dataset.name."
        )
    if (
        not isinstance(image, tfds.features.Image)
        or None in image.shape
        or image.shape[2] not in (1, 3)
        or image.np_dtype != np.uint8
    ):
        raise UserError(
            f"data set {folder} is invalid (its feature `image` is {image!r}): it must have uint8 "
            "images of one size with 1 or 3 channels. Change dataset.name."
        )
    return image.shape, tuple(label.names)


class Records:
    """Random access to the examples of one split, in the order in which TFDS stores them.

    It can be pickled. The copy has no open files: it opens them at its first read.
    """

    def __init__(self, folder: Path, split: str) -> None:
        """Describes the records to read, without opening the files.

        Args:
          folder: folder of the prepared data set.
          split: name of the split, such as `train`.
        """
        self._folder = folder
        self._split = split
        self._opened: tuple[Any, tuple[int, int, int], int] | None = None

    def __reduce__(self) -> tuple[type["Records"], tuple[Path, str]]:
        return Records, (self._folder, self._split)

    def open(self) -> int:
        """Opens the files if they are not open, and returns the number of examples.

        The first call imports TFDS, which replaces Python's import function for all threads while
        it is imported. Call this method before other threads run; several threads may then read.

        Raises:
          UserError: if the folder is damaged.
        """
        if self._opened is None:
            import tensorflow_datasets as tfds

            with translate_read_errors(self._folder):
                shape, class_names = describe(self._folder)
                source = _builder(self._folder).as_data_source(
                    self._split, decoders={"image": tfds.decode.SkipDecoding()}
                )
                self._opened = source, shape, len(class_names)
        return len(self._opened[0])

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples:
        """Reads and decodes some examples.

        Args:
          rows: integers [N], 0..n-1 for a split of n examples, in any order, with repetition.

        Returns:
          N examples, in the order of `rows`.

        Raises:
          UserError: if records are missing or damaged.
        """
        self.open()
        assert self._opened is not None
        source, shape, num_classes = self._opened
        images = np.empty((len(rows), *shape), np.uint8)
        labels = np.empty(len(rows), np.int32)
        with translate_read_errors(self._folder):
            for index, record in enumerate(source.__getitems__(rows.tolist())):
                images[index] = _decode(record["image"], shape)
                labels[index] = record["label"]
            if labels.size and labels.min() == -1:
                raise UserError(
                    f"split {self._split} of {self._folder} has examples without a label (-1): "
                    "each must have one. Change dataset.train_split or dataset.test_split."
                )
            if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
                raise ValueError(f"its labels are not in 0..{num_classes - 1}")
        return Examples(images, labels)


def read(folder: Path, split: str, show_progress: bool) -> Examples:
    """Reads and decodes all examples of one split.

    Args:
      folder: folder of the prepared data set.
      split: name of the split, such as `train`.
      show_progress: whether to draw a progress bar on standard error.

    Returns:
      All examples, in the order in which TFDS stores them.

    Raises:
      UserError: if records are missing or damaged.
    """
    with translate_read_errors(folder):
        shape, _ = describe(folder)
    records = Records(folder, split)
    images = np.empty((records.open(), *shape), np.uint8)
    labels = np.empty(len(images), np.int32)
    starts = range(0, len(images), _CHUNK_SIZE)
    for start in tqdm(starts, f"Reading {split}", disable=not show_progress, leave=False):
        chunk = slice(start, min(start + _CHUNK_SIZE, len(images)))
        examples = records.read(np.arange(chunk.start, chunk.stop))
        images[chunk], labels[chunk] = examples.image, examples.label
    return Examples(images, labels)


def _decode(encoded: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Decodes one image file.

    Args:
      encoded: content of the file, such as a PNG.
      shape: (height, width, channels); 1 channel: grey, 3 channels: RGB.

    Returns:
      uint8 array of that shape.
    """
    mode = "L" if shape[2] == 1 else "RGB"
    with Image.open(io.BytesIO(encoded)) as image:
        # `convert` copies even if the mode is right, which takes a sixth of the decoding time.
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(shape)
