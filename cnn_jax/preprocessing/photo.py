"""Reads people's pictures as images that a model takes.

People photograph, scan or draw a digit dark on light or light on dark, anywhere on a picture of any
size. A model only knows digits framed like those of its training set.
"""

import itertools
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cnn_jax.preprocessing.decode import PhotoError, read_pages
from cnn_jax.preprocessing.formats import load_formats
from cnn_jax.preprocessing.frame import Conventions, conventions_of, frame_ink
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.segment import find_ink, shrink_to

_THREADS = min(4, os.cpu_count() or 1)  # Each may hold a picture of a hundred megapixels.
_DISPLAY_SIDE = 400  # Pixels of the longer side of the original that figures show.


@dataclass(frozen=True)
class Photo:
    """A picture and the image that a model takes in its place.

    Attributes:
      original: upright RGB picture for display, at most 400 pixels a side.
      image_u8: uint8 [H, W, C], 0..255, the image.
      polarity: `dark on light` or `light on dark`, as detected; None for RGB images.
      is_doubtful: whether perhaps nothing is drawn, on paper with texture or printed lines.
    """

    original: Image.Image
    image_u8: npt.NDArray[np.uint8]
    polarity: str | None
    is_doubtful: bool = False


def read_picture(
    path: str | os.PathLike[str], image_shape: tuple[int, int, int] = (28, 28, 1)
) -> npt.NDArray[np.uint8]:
    """Reads one picture as an image framed by MNIST's conventions.

    The ink is found on any background, drawn light on black, scaled and centred as in MNIST.

    Args:
      path: of a picture in any format that Pillow decodes; the first picture where it has several.
      image_shape: (height, width, channels) of the image. With 3 channels the picture is not
        segmented, but cropped to the shape's aspect ratio and resized.

    Returns:
      uint8 [H, W, C], 0..255, what a model takes as one of its images.

    Raises:
      PhotoError: a ValueError, when the file is not a picture, is damaged, or shows nothing.
      UserError: when the shape has neither one channel nor three.
    """
    conventions = conventions_of("mnist", image_shape)
    try:
        return read_photo(Path(path), image_shape, conventions).image_u8
    except PhotoError as error:
        raise PhotoError(
            f"cannot read {os.fspath(path)} (it {error}): it must be a picture that Pillow decodes "
            "and that shows something. Choose another file."
        ) from error


def read_photo(
    path: Path, image_shape: tuple[int, int, int], conventions: Conventions | None
) -> Photo:
    """Reads one picture.

    Args:
      path: of a file in any format that Pillow decodes; the first picture where it has several.
      image_shape: (height, width, channels) of the images that the model takes.
      conventions: from `conventions_of` for the same shape; None for RGB images.

    Raises:
      PhotoError: when the file is not a picture, is damaged, or shows nothing. The message is the
        reason without the file's name.
    """
    (photo,) = read_photos([Page(path)], image_shape, conventions)
    if isinstance(photo, PhotoError):
        raise photo
    return photo


def read_photos(
    pages: Sequence[Page], image_shape: tuple[int, int, int], conventions: Conventions | None
) -> list[Photo | PhotoError]:
    """Reads pictures in parallel. The result for a file depends on that file alone.

    Args:
      pages: of files in any format that Pillow decodes. The pages of one file follow each other, in
        ascending order, so that the file is opened once.
      image_shape: (height, width, channels) of the images that the model takes.
      conventions: from `conventions_of` for the same shape; None for RGB images.

    Returns:
      For each page its photo, or the PhotoError that says why it could not be read.
    """

    def read(file: tuple[Path, list[int]]) -> list[Photo | PhotoError]:
        photos: list[Photo | PhotoError] = []
        for picture in read_pages(*file):
            try:
                photos.append(_prepare(picture, image_shape, conventions))
            except PhotoError as error:
                photos.append(error)
        return photos

    load_formats()
    files = [
        (path, [page.number or 1 for page in group])
        for path, group in itertools.groupby(pages, lambda page: page.path)
    ]
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as threads:
        warnings.simplefilter("ignore")  # About odd metadata, and sizes below Pillow's limit.
        return list(itertools.chain.from_iterable(threads.map(read, files)))


def _prepare(
    picture: Image.Image | PhotoError,
    image_shape: tuple[int, int, int],
    conventions: Conventions | None,
) -> Photo:
    if isinstance(picture, PhotoError):
        raise picture
    height, width, _ = image_shape
    original = shrink_to(picture, _DISPLAY_SIDE)
    if conventions is None:
        image_u8 = np.array(ImageOps.fit(picture, (width, height)))
        return Photo(original, image_u8, None)
    ink = find_ink(picture)
    image_u8 = frame_ink(ink, (height, width), conventions)
    polarity = "dark on light" if ink.is_dark else "light on dark"
    return Photo(original, image_u8[..., np.newaxis], polarity, ink.is_doubtful)
