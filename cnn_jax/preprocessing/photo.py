"""Brings any picture that people have to the conventions of a data set, for a network to read.

A digit is photographed, scanned or drawn, dark on light or light on dark, somewhere on a picture of
any size; a network knows only digits as the makers of its training set framed them.
"""

import dataclasses
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cnn_jax.preprocessing import frame
from cnn_jax.preprocessing.decode import PhotoError, read_rgb
from cnn_jax.preprocessing.frame import Conventions
from cnn_jax.preprocessing.segment import find_ink, shrink_to

_THREADS = min(4, os.cpu_count() or 1)  # Each may hold a picture of a hundred megapixels.
_SHOWN = 400  # Pixels a side for people.


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture, and what a network gets to see of it.

    Attributes:
      original: upright RGB, for people: its longer side is at most 400 pixels.
      image_u8: uint8 [H, W, C], 0..255.
      polarity: `dark on light` or `light on dark`, as found; None for networks that see colours.
    """

    original: Image.Image
    image_u8: npt.NDArray[np.uint8]
    polarity: str | None


def read_photo(
    path: Path, image_shape: tuple[int, int, int], conventions: Conventions | None
) -> Photo:
    """Reads one picture; see `read_photos`.

    Raises:
      PhotoError: when the file is no picture, is damaged, or shows nothing.
    """
    (photo,) = read_photos([path], image_shape, conventions)
    if isinstance(photo, PhotoError):
        raise photo
    return photo


def read_photos(
    paths: Sequence[Path], image_shape: tuple[int, int, int], conventions: Conventions | None
) -> list[Photo | PhotoError]:
    """Reads pictures, the first where a file has several; the same file gives the same result.

    Args:
      paths: of files in any format that Pillow knows.
      image_shape: (height, width, channels) of what the network sees.
      conventions: of `conventions_of`, for the same shape.

    Returns:
      A photo for each, or why there is none.
    """

    def read(path: Path) -> Photo | PhotoError:
        try:
            return _photo(path, image_shape, conventions)
        except PhotoError as error:
            return error

    Image.init()  # Pillow learns of its formats: here, since it is not made for threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as threads:
        warnings.simplefilter("ignore")  # Of odd metadata, and of sizes below Pillow's limit.
        return list(threads.map(read, paths))


def _photo(path: Path, image_shape: tuple[int, int, int], conventions: Conventions | None) -> Photo:
    picture = read_rgb(path)
    height, width, _ = image_shape
    original = shrink_to(picture, _SHOWN)
    if conventions is None:
        image_u8 = np.array(ImageOps.fit(picture, (width, height)))
        return Photo(original, image_u8, None)
    found = find_ink(picture)
    image_u8 = frame.frame_ink(found, (height, width), **dataclasses.asdict(conventions))
    polarity = "dark on light" if found.is_dark else "light on dark"
    return Photo(original, image_u8[..., np.newaxis], polarity)
