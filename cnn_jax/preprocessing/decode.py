"""Decodes picture files of any format to upright RGB pictures of bounded size."""

import contextlib
import io
import math
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from cnn_jax.preprocessing.formats import HEIC_ADVICE, is_heic, load_formats


class PhotoError(ValueError):
    """A file cannot be used as a picture.

    From `read_photo` and `read_photos` the message is a reason to follow the file's name and "it":
    `is empty`. From `read_picture` it is a full sentence with the file's name.
    """


_GREY_MODES = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16L", "I;16B", "I;16N")  # Of Pillow.
_MAX_SIDE = 1200  # Pixels. A digit that fills a tenth of them still has plenty.
_MIN_SIDE = 8  # Pixels. A tiny picture is not tinier.
_MIN_EDGES = 0.7  # Part of the edges between squares, from the first to the last, that are seen.


@dataclass(frozen=True)
class Decoded:
    """A decoded page.

    Attributes:
      picture: upright, RGB, at most 1200 pixels a side.
      scale: number of pixels of the page per pixel of the picture, at least 1.
    """

    picture: Image.Image
    scale: float


def read_as_is(source: Path | bytes) -> Image.Image:
    """Decodes the first page of a picture at its own size, upright.

    Args:
      source: a file, or its content.

    Returns:
      A picture of mode L if it is grey, else RGB. Transparent pictures are put on white or black,
      16-bit and 32-bit ones are stretched to 8 bits.

    Raises:
      PhotoError: as `read_pages` yields them.
    """
    with _translate_decoder_errors():
        if isinstance(source, bytes):
            opened: Image.Image = Image.open(io.BytesIO(source), formats=load_formats())
        else:
            opened = open_picture(source)
        with opened as picture:
            picture.load()
            if picture.mode in ("L", "RGB") and not picture.has_transparency_data:
                return _turn_upright(picture)
            rgb = _to_rgb(picture)
            # Of equal red, green and blue, luma is exactly their value.
            return _turn_upright(rgb.convert("L") if picture.mode in _GREY_MODES else rgb)


def open_picture(path: Path, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Opens a file at its first page, without decoding it.

    Args:
      path: of a file.
      formats: Pillow's names of the formats to try; None: all of `load_formats`.

    Raises:
      PhotoError: when the file is not a regular one, or is empty.
      Exception: of any kind, from Pillow's decoders.
    """
    status = path.stat()  # Checked first, because opening a FIFO would wait for its writer.
    if stat.S_ISDIR(status.st_mode):
        raise PhotoError("is a folder, not a picture")
    if not stat.S_ISREG(status.st_mode):
        raise PhotoError("is not a regular file")
    if status.st_size == 0:
        raise PhotoError("is empty")
    try:
        return Image.open(path, formats=load_formats() if formats is None else formats)
    except UnidentifiedImageError as error:
        if is_heic(path):
            has_decoder = "HEIF" in load_formats()
            reason = "is a damaged HEIC picture" if has_decoder else f"is HEIC: {HEIC_ADVICE}"
            raise PhotoError(reason) from error
        raise


def read_pages(path: Path, numbers: Sequence[int]) -> Iterator[Decoded | PhotoError]:
    """Decodes pages of a file, one at a time.

    Args:
      path: of a file in any format of `load_formats`.
      numbers: of the pages, from 1, ascending: some formats decode a page from the one before it.

    Yields:
      For each page its picture, or the reason why it cannot be read: it is no picture, damaged or
      too large. Transparent pictures are put on white or black, 16-bit and 32-bit ones are
      stretched to 8 bits.
    """
    try:
        with _translate_decoder_errors():
            picture = open_picture(path)
    except PhotoError as error:
        yield from [error] * len(numbers)
        return
    with picture:
        for number in numbers:
            try:
                with _translate_decoder_errors():
                    if number > 1:  # A HEIC file opens at its main picture, which must stay.
                        picture.seek(number - 1)
                        _check_size(picture)
                    longest = max(picture.size)
                    rgb = _upright_rgb(picture)
                    page: Decoded | PhotoError = Decoded(rgb, longest / max(rgb.size))
            except PhotoError as error:
                page = error
            yield page


def _check_size(picture: Image.Image) -> None:
    """Checks the size of a page as Pillow checks that of a file's first one."""
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if limit and picture.width * picture.height > limit:
        raise Image.DecompressionBombError


@contextlib.contextmanager
def _translate_decoder_errors() -> Iterator[None]:
    """Turns every exception of the body into a PhotoError with the reason."""
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError("has no format that Pillow decodes: save it as JPEG or PNG") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        max_pixels = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise PhotoError(
            f"is too large: it must have at most {max_pixels:,} pixels and fit in memory"
        ) from error
    except Exception as error:  # Pillow's decoders raise exceptions of every kind.
        if isinstance(error, OSError) and error.strerror:
            raise PhotoError(f"cannot be read: {error.strerror}") from error
        if "truncated" in str(error).lower():
            raise PhotoError("is truncated") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"is damaged: {reason}") from error


def _upright_rgb(picture: Image.Image) -> Image.Image:
    """Converts a picture to RGB, shrinks it to `_MAX_SIDE` and applies its EXIF orientation.

    Where a tiny picture was enlarged by drawing a square for each of its pixels, that tiny picture
    is restored: edges of such squares are no strokes.
    """
    picture.draft(None, (_MAX_SIDE, _MAX_SIDE))  # JPEG decodes straight to 1/2, 1/4 or 1/8.
    rgb = _to_rgb(picture)
    side = _side_of_squares(np.asarray(rgb))
    if min(rgb.size) // side >= _MIN_SIDE:
        rgb = rgb.resize((rgb.width // side, rgb.height // side), Image.Resampling.NEAREST)
    rgb.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.BOX, reducing_gap=1.0)
    return _turn_upright(rgb)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Converts a picture of any mode to RGB."""
    if picture.mode.startswith(("I", "F")):
        return _stretch_to_8_bits(picture)
    if picture.has_transparency_data:
        return _add_background(picture.convert("RGBA"))
    return picture.convert("RGB")


def _turn_upright(picture: Image.Image) -> Image.Image:
    """Applies a picture's EXIF orientation."""
    with contextlib.suppress(Exception):  # Damaged metadata does not make the pixels useless.
        picture = ImageOps.exif_transpose(picture)
    return picture


def _side_of_squares(pixels_u8: npt.NDArray[np.uint8]) -> int:
    """Returns the side of the squares of one colour of which a picture consists, in pixels.

    Args:
      pixels_u8: uint8 [H, W, 3].

    Returns:
      The largest number that divides both sides and each row and column where a colour changes; 1
      for most pictures, also for one of few rectangles with round coordinates.
    """
    side = math.gcd(*pixels_u8.shape[:2])
    for stride in (32, 1):  # Of most pictures a few rows or columns show it.
        edges = [
            np.flatnonzero((lines[1:] != lines[:-1]).any(axis=(1, 2))) + 1
            for lines in (pixels_u8[:, ::stride], pixels_u8[::stride].swapaxes(0, 1))
        ]
        side = math.gcd(side, *map(int, np.concatenate(edges)))
        if side == 1:
            return 1
    for positions in edges:
        if not len(positions) or len(positions) < _MIN_EDGES * (1 + np.ptp(positions) / side):
            return 1
    return side


def _stretch_to_8_bits(picture: Image.Image) -> Image.Image:
    """Scales the range in use to 0..255: a scanner's 12 bits fill only 1/16 of a 16-bit range."""
    values = np.nan_to_num(np.asarray(picture, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.min(values), np.max(values)
    pixels_u8 = np.rint((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    return Image.fromarray(pixels_u8).convert("RGB")


def _add_background(picture: Image.Image) -> Image.Image:
    """Puts an RGBA picture on white or black, whichever contrasts with its opaque part."""
    if picture.getchannel("A").getextrema() == (255, 255):
        return picture.convert("RGB")  # As drawing programs save it; nothing is transparent.
    luma = np.asarray(picture.convert("L"), np.float32)
    alpha = np.asarray(picture.getchannel("A"), np.float32)
    is_light = np.sum(luma * alpha) > 127.5 * np.sum(alpha)
    background = Image.new("RGBA", picture.size, "black" if is_light else "white")
    return Image.alpha_composite(background, picture).convert("RGB")
