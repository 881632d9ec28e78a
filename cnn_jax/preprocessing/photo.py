"""Reads people's pictures as images that a model takes.

People photograph, scan or draw a digit dark on light or light on dark, anywhere on a picture of any
size. A model only knows digits framed like those of its training set.
"""

import dataclasses
import itertools
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cnn_jax.preprocessing.decode import Decoded, PhotoError, read_pages
from cnn_jax.preprocessing.formats import load_formats
from cnn_jax.preprocessing.frame import Conventions, as_framed, conventions_of, frame_ink
from cnn_jax.preprocessing.lines import Candidate, find_lines
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.segment import shrink_to

_DISPLAY_SIDE = 400  # Pixels of the longer side of the original that figures show.


@dataclass(frozen=True)
class Crop:
    """A part of a picture that may be a digit, or all that it shows.

    Attributes:
      image_u8: uint8 [H, W, C], 0..255, the image that a model takes in its place.
      box: its left, upper, right and lower end on the upright picture, in pixels of the file.
      start: index of the first piece of the line that belongs to it, and
      stop: index after the last one.
      cost: how unlikely its shape is.
    """

    image_u8: npt.NDArray[np.uint8]
    box: tuple[int, int, int, int]
    start: int = 0
    stop: int = 1
    cost: float = 0.0


@dataclass(frozen=True)
class Photo:
    """A picture and the images that a model takes in its place.

    Attributes:
      original: upright RGB picture for display, at most 400 pixels a side; None unless kept.
      lines: for each line of writing, from top to bottom, the parts that may be its digits: a
        sequence of them in which each starts where the one before stops is a way to read it. A
        picture that is not divided has one line with one part.
      polarity: `dark on light` or `light on dark`, as detected; None for RGB images.
      scale: number of pixels of the file per pixel of `original`, at least 1.
      is_doubtful: whether perhaps nothing is drawn, on paper with texture or printed lines.
    """

    original: Image.Image | None
    lines: list[list[Crop]]
    polarity: str | None
    scale: float
    is_doubtful: bool = False

    @property
    def image_u8(self) -> npt.NDArray[np.uint8]:
        """Returns the image of a picture that is not divided, uint8 [H, W, C]."""
        return self.lines[0][0].image_u8


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


def plain_photo(
    image_u8: npt.NDArray[np.uint8], size: tuple[int, int], original: Image.Image | None
) -> Photo:
    """Returns the photo of a picture that is not searched for ink.

    Args:
      image_u8: uint8 [H, W, C], all of the picture, as the model takes it.
      size: (width, height) of the picture in pixels.
      original: the picture, for figures, or None.
    """
    scale = max(1.0, max(size) / _DISPLAY_SIDE)
    shown = original and shrink_to(original.convert("RGB"), _DISPLAY_SIDE)
    return Photo(shown, [[Crop(image_u8, (0, 0, *size))]], None, scale)


Photos = list[Photo | PhotoError]


def read_photos(
    pages: Sequence[Page],
    image_shape: tuple[int, int, int],
    conventions: Conventions | None,
    *,
    divide: bool = False,
    keep_original: bool = False,
) -> Photos:
    """Reads pictures. The result for a file depends on that file alone.

    Args:
      pages: of files in any format that Pillow decodes. The pages of one file follow each other, in
        ascending order, so that the file is opened once.
      image_shape: (height, width, channels) of the images that the model takes.
      conventions: from `conventions_of` for the same shape; None for RGB images.
      divide: whether the ink is divided into lines and digits.
      keep_original: whether figures will show the pictures themselves.

    Returns:
      For each page its photo, or the PhotoError that says why it could not be read.
    """

    load_formats()
    photos: Photos = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About odd metadata, and sizes below Pillow's limit.
        for path, group in itertools.groupby(pages, lambda page: page.path):
            for page in read_pages(path, [page.number or 1 for page in group]):
                try:
                    photo = _prepare(page, image_shape, conventions, divide, keep_original)
                    photos.append(photo)
                except PhotoError as error:
                    photos.append(error)
    return photos


def _prepare(
    page: Decoded | PhotoError,
    image_shape: tuple[int, int, int],
    conventions: Conventions | None,
    divide: bool,
    keep_original: bool,
) -> Photo:
    if isinstance(page, PhotoError):
        raise page
    height, width, _ = image_shape
    picture = page.picture
    original = shrink_to(picture, _DISPLAY_SIDE) if keep_original else None
    scale = page.scale * max(1.0, max(picture.size) / _DISPLAY_SIDE)
    if conventions is None:
        image_u8 = np.array(ImageOps.fit(picture, (width, height)))
        box = _pixels_of((0, 0, *picture.size), page.scale)
        return Photo(original, [[Crop(image_u8, box)]], None, scale)
    enlarged = _enlarge_to(picture, conventions.box_size)
    if divide:
        found, is_doubtful = find_lines(enlarged)
    else:
        ink = conventions.find(enlarged)
        found, is_doubtful = [[Candidate(0, 1, ink, (0, 0, *enlarged.size))]], ink.is_doubtful
    pixels = page.scale * picture.width / enlarged.width
    lines = [
        [
            Crop(
                frame_ink(part.ink, (height, width), conventions)[..., np.newaxis],
                _pixels_of(part.box, pixels),
                part.start,
                part.stop,
                part.cost,
            )
            for part in line
        ]
        for line in found
    ]
    is_dark = found[0][0].ink.is_dark
    is_whole = len(lines) == len(lines[0]) == 1
    if is_whole and (framed := as_framed(picture, (height, width), conventions)):
        image_u8, is_dark = framed
        lines = [[dataclasses.replace(lines[0][0], image_u8=image_u8[..., np.newaxis])]]
    polarity = "dark on light" if is_dark else "light on dark"
    return Photo(original, lines, polarity, scale, is_doubtful)


def _pixels_of(box: Sequence[float], scale: float) -> tuple[int, int, int, int]:
    left, upper, right, lower = (round(scale * end) for end in box)
    return left, upper, right, lower


def _enlarge_to(picture: Image.Image, side: int) -> Image.Image:
    """Enlarges a picture whose longer side is less than `side` pixels, as scikit-learn's digits."""
    scale = side / max(picture.size)
    if scale <= 1:
        return picture
    width, height = (max(1, round(scale * length)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
