"""A split of a data set of files: labels, and random access to the images."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from cnn_jax.errors import UserError

NUM_CHANNELS = (1, 3)  # Grey, RGB.
UNKNOWN = -1  # Label of an image in a file without labels.
# Names of splits in the names of files, folders and arrays.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)
_CHUNK_SIZE = 1000  # Images read at once: few enough to show progress.
# A bit of DEFLATE's output takes at least a 1032nd of a bit (https://zlib.net/zlib_tech.html).
_MAX_COMPRESSION = 1032


@dataclasses.dataclass(frozen=True)
class Form:
    """The form to which images are brought.

    Attributes:
      channels: 1: grey, 3: RGB, 0: as the files are.
      size: (height, width) in pixels; None: as the files are.
      transpose: whether rows and columns of the files' images are exchanged, before all else.
    """

    channels: int = 0
    size: tuple[int, int] | None = None
    transpose: bool = False

    def shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns the (height, width, channels) that images of such a shape are brought to."""
        height, width, channels = image_shape
        if self.transpose:
            height, width = width, height
        return (*(self.size or (height, width)), self.channels or channels)

    def apply(self, image_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Brings images to the form: uint8 [N, h, w, c] to uint8 [N, H, W, C]."""
        turned = image_u8.swapaxes(1, 2) if self.transpose else image_u8
        shape = (len(image_u8), *self.shape(image_u8.shape[1:]))
        if turned.shape == shape:
            return turned
        result = np.empty(shape, np.uint8)
        for index, image in enumerate(image_u8):
            grey_or_rgb = image[..., 0] if image.shape[2] == 1 else image
            result[index] = self.convert(Image.fromarray(grey_or_rgb))
        return result

    def convert(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """Brings a picture of mode L or RGB to the form: uint8 [H, W, C].

        A colour becomes its luma (ITU-R 601-2), a grey three equal channels. Other sizes are
        resampled bilinearly, with antialiasing, to exactly H x W.
        """
        if self.transpose:
            picture = picture.transpose(Image.Transpose.TRANSPOSE)
        if self.channels:
            mode = "L" if self.channels == 1 else "RGB"
            picture = picture if picture.mode == mode else picture.convert(mode)
        if self.size and picture.size != self.size[::-1]:
            picture = picture.resize(self.size[::-1], Image.Resampling.BILINEAR)
        pixels = np.asarray(picture)
        return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


class Split(Protocol):
    """The labels of a split, and random access to its images.

    Attributes:
      label: int64 [N]: indices into `class_names`, or where that is empty, the numbers in the file;
        all `UNKNOWN` in a file without labels.
      class_names: names of the classes; empty where the file has numbers alone.
    """

    @property
    def label(self) -> npt.NDArray[np.int64]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that `read` returns."""

    def key(self, row: int) -> str:
        """Returns the path of an example in its folder, or its id or row, from 0."""

    def where(self, row: int) -> str:
        """Returns the file and the row of an example, for a message."""

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Returns some images, uint8 [N, H, W, C].

        Raises:
          UserError: for an image that cannot be read.
        """

    def read_chunks(self, rows: npt.NDArray[np.integer[Any]]) -> Iterator[npt.NDArray[np.uint8]]:
        """Yields the same images as `read`, some at a time, if possible from several processes."""


def is_labelled(split: Split) -> bool:
    """Returns whether the file of a split has labels."""
    return bool((split.label != UNKNOWN).any())


@dataclasses.dataclass(frozen=True)
class ArraySplit:
    """A split whose images are an array.

    Attributes:
      path: file of the images.
      image: uint8 [N, h, w, c], as in the file.
      label: see `Split`.
      form: form of the images that `read` returns.
      class_names: see `Split`.
      row_name: name of a row in messages.
      first_row: number of the first row, there.
      ids: int64 [N], number of each row in the file; None: they count from 0.
    """

    path: Path
    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.int64]
    form: Form
    class_names: tuple[str, ...] = ()
    row_name: str = "row"
    first_row: int = 0
    ids: npt.NDArray[np.int64] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.form.shape(self.image.shape[1:])

    def key(self, row: int) -> str:
        return str(row if self.ids is None else self.ids[row])

    def where(self, row: int) -> str:
        return f"{self.path}, {self.row_name} {row + self.first_row}"

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        return self.form.apply(self.image[rows])

    def read_chunks(self, rows: npt.NDArray[np.integer[Any]]) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, len(rows), _CHUNK_SIZE):
            yield self.read(rows[start : start + _CHUNK_SIZE])


@dataclasses.dataclass(frozen=True)
class Found:
    """A data set of one format, found but not opened.

    Attributes:
      format: the format in a few words, for people.
      files: all files on which its examples depend, in their order.
      open: reads the labels, and opens the splits by their names: `train` alone, or with others.
    """

    format: str
    files: Sequence[Path]
    open: Callable[[Form], Mapping[str, Split]]


def read_error(where: str | Path, reason: str, must: str, advice: str) -> UserError:
    """Returns the error for a file of a data set.

    Args:
      where: the file, and the row in it.
      reason: what was found.
      must: what completes "it must".
      advice: what to do; a full sentence.
    """
    return UserError(f"cannot use {where} ({reason}): it must {must}. {advice}")


def check_packed_size(path: Path, declared: int, packed: int) -> None:
    """Refuses a packed file that declares more bytes than it can hold.

    Args:
      path: the file.
      declared: bytes that it says it unpacks to.
      packed: its own bytes.

    Raises:
      UserError: for such a file.
    """
    if declared > _MAX_COMPRESSION * packed + 1000:
        raise read_error(
            path,
            f"it declares {declared:,} bytes in {packed:,} packed ones",
            "hold what it declares",
            "Get the file again from where you have it.",
        )


def check_memory(where: str | Path, num_bytes: int) -> None:
    """Refuses what does not fit into memory, before it is allocated.

    Raises:
      UserError: where it needs more than the free memory.
    """
    free = psutil.virtual_memory().available
    if num_bytes > free:
        raise read_error(
            where,
            f"it needs {num_bytes:,} bytes",
            f"fit in the free memory, {free:,} bytes",
            "Free some, or save its images as pictures in folders and use dataset.feed=stream.",
        )
