"""Brings any picture that people have to the conventions of a data set, for a network to read.

A digit is photographed, scanned or drawn, dark on light or light on dark, somewhere on a picture of
any size; a network knows only digits as the makers of its training set framed them.
"""

import contextlib
import dataclasses
import os
import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from cnn_jax.errors import UserError
from cnn_jax.preprocessing import segment

_DECODED = 1200  # Pixels a side: a digit that fills a tenth of them still has plenty.
_SEARCHED = 240  # Pixels a side in which ink is looked for: more costs time, and finds no more.
_NESTED = 3  # Most sheets and frames around a digit: a form on a desk, a box on the form.
_THREADS = min(4, os.cpu_count() or 1)  # Each may hold a picture of a hundred megapixels.
_SHOWN = 400  # Pixels a side for people.


class PhotoError(Exception):
    """A file does not serve as a picture: one short reason, to follow the file's name."""


@dataclasses.dataclass(frozen=True)
class Conventions:
    """How the makers of a data set framed what is drawn: light on black, and

    Attributes:
      box: the longer side of the ink, in pixels.
      by_mass: whether the centre of mass, or else of the box, is in the middle of the image.
      stroke: the least width of strokes, in pixels, in all but the thinnest twentieth of images.
    """

    box: int
    by_mass: bool
    stroke: float


# For images of 28x28. MNIST: a box of 20, the centre of mass in the middle, says its page
# (http://yann.lecun.com/exdb/mnist/); measured over the first 3,000 training images, it is at pixel
# 14.0 in the mean, with the spread of rounding, 0.29. Widths by `ink.stroke_width`, first 2,000
# images: 2.0 in the thinnest twentieth, 2.6 in the median; scikit-learn's digits 3.4 and 4.0.
_MNIST = Conventions(box=20, by_mass=True, stroke=2.0)
_OTHERS = {
    "digits": Conventions(box=20, by_mass=False, stroke=3.4),
    "fashion_mnist": Conventions(box=28, by_mass=False, stroke=0.0),
    "kmnist": Conventions(box=28, by_mass=False, stroke=0.0),
}


def conventions_of(dataset_name: str, image_shape: tuple[int, int, int]) -> Conventions | None:
    """The conventions of a data set; MNIST's where they are not known.

    Args:
      dataset_name: as in `dataset.name`.
      image_shape: (height, width, channels) of its images.

    Returns:
      None for images with colours, which show more than ink.

    Raises:
      UserError: when images have neither one channel nor three.
    """
    height, width, channels = image_shape
    if channels not in (1, 3):
        raise UserError(
            f"{dataset_name} has images of {channels} channels: allowed are 1 and 3, which a "
            "picture can be brought to. Choose a network of another data set."
        )
    if channels == 3:
        return None
    known = _OTHERS.get(dataset_name, _MNIST)
    scale = min(height, width) / 28
    return Conventions(max(1, round(known.box * scale)), known.by_mass, known.stroke * scale)


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
    picture = _read(path)
    height, width, _ = image_shape
    original = _within(picture, _SHOWN)
    if conventions is None:
        image_u8 = np.array(ImageOps.fit(picture, (width, height)))
        return Photo(original, image_u8, None)
    found = _find_ink(picture)
    image_u8 = segment.frame(found, (height, width), **dataclasses.asdict(conventions))
    polarity = "dark on light" if found.is_dark else "light on dark"
    return Photo(original, image_u8[..., np.newaxis], polarity)


def _find_ink(picture: Image.Image) -> segment.Ink:
    """Looks twice: at everything, for where the ink is, and at that place, for what it is.

    Where a sheet or a frame was found for ink, everything is what it holds.
    """
    rough, scale = _look(picture, max(picture.size) / 2)
    with contextlib.suppress(PhotoError):  # It holds nothing: it is the drawing after all.
        for _ in range(_NESTED):
            inside = segment.inside(np.asarray(_within(picture, _SEARCHED)), rough)
            if inside is None:
                break
            held = _only(picture, inside)
            rough, scale = _look(held, max(held.size) / 2)
            picture = held
    left, upper, right, lower = (scale * end for end in rough.box)
    longest = max(right - left, lower - upper)
    margin = longest / 2
    place = (
        round(max(left - margin, 0)),
        round(max(upper - margin, 0)),
        round(min(right + margin, picture.width)),
        round(min(lower + margin, picture.height)),
    )
    found, _ = _look(picture.crop(place), longest)
    return found


def _look(picture: Image.Image, longest: float) -> tuple[segment.Ink, float]:
    """The ink on a reduced view, and how many pixels of the picture one of the view stands for.

    Args:
      picture: RGB.
      longest: about the longer side of what is drawn, in pixels; no stroke is half as wide.

    Raises:
      PhotoError: when there is no ink.
    """
    view = _within(picture, _SEARCHED)
    scale = max(picture.size) / max(view.size)
    found = segment.find(np.asarray(view), widest=longest / 2 / scale)
    if found is None:
        raise PhotoError("shows nothing: it is of one colour")
    return found, scale


def _only(picture: Image.Image, place: segment.Mask) -> Image.Image:
    """That place of a picture, in a box whose rest continues it.

    Args:
      picture: RGB.
      place: bool [H, W], of a reduced view.
    """
    view = np.asarray(picture.resize(place.shape[::-1], Image.Resampling.BOX))
    nearest = ndimage.distance_transform_edt(~place, return_distances=False, return_indices=True)
    ground = Image.fromarray(view[tuple(nearest)]).resize(picture.size)
    mask = Image.fromarray(place).resize(picture.size)
    return Image.composite(picture, ground, mask).crop(mask.getbbox())


def _within(picture: Image.Image, side: int) -> Image.Image:
    """A copy whose longer side is at most that many pixels, each the average of an area."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.BOX)
    return small


def _read(path: Path) -> Image.Image:
    """The picture in a file: upright RGB of at most `_DECODED` pixels a side."""
    try:
        status = path.stat()  # Opening a FIFO would wait for its writer.
        if stat.S_ISDIR(status.st_mode):
            raise PhotoError("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError("is no regular file")
        if status.st_size == 0:
            raise PhotoError("is empty")
        # For EPS Pillow starts another program on what the file says, whatever the file's name.
        with Image.open(path, formats=[kind for kind in Image.OPEN if kind != "EPS"]) as image:
            return _upright_rgb(image)
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError("holds no picture that Pillow knows; save it as JPEG or PNG") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise PhotoError(f"is too large: allowed are {most:,} pixels, in memory") from error
    except Exception as error:  # Pillow's decoders raise whatever they stumble over.
        if isinstance(error, OSError) and error.strerror:
            raise PhotoError(f"cannot be read: {error.strerror}") from error
        if "truncated" in str(error).lower():
            raise PhotoError("is truncated") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"is damaged: {reason}") from error


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.draft(None, (_DECODED, _DECODED))  # JPEG decodes to a half, a quarter, an eighth at once.
    if image.mode.startswith(("I", "F")):
        plain = _stretched(image)
    elif image.has_transparency_data:
        plain = _on_ground(image.convert("RGBA"))
    else:
        plain = image.convert("RGB")
    plain.thumbnail((_DECODED, _DECODED), Image.Resampling.BOX, reducing_gap=1.0)
    with contextlib.suppress(Exception):  # Damaged metadata: the picture is there all the same.
        plain = ImageOps.exif_transpose(plain)
    return plain


def _stretched(image: Image.Image) -> Image.Image:
    """Brings 16 or 32 bits to 8: of the range in use, as 12 bits of a scanner are few of 16."""
    values = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.min(values), np.max(values)
    pixels_u8 = np.rint((values - low) * (255 / (high - low or 1.0))).astype(np.uint8)
    return Image.fromarray(pixels_u8).convert("RGB")


def _on_ground(image: Image.Image) -> Image.Image:
    """Puts an RGBA picture on white or black, whichever its opaque part stands out from."""
    light = np.asarray(image.convert("L"), np.float32)
    opaque = np.asarray(image.getchannel("A"), np.float32)
    is_light = np.sum(light * opaque) > 127.5 * np.sum(opaque)
    ground = Image.new("RGBA", image.size, "black" if is_light else "white")
    return Image.alpha_composite(ground, image).convert("RGB")
