"""Segments the ink of a drawing from its background, whatever its colours and lighting.

The method rests on three traits of ink. It has one colour, which differs from the background in one
direction of colour space. It is narrow: anything wider than a stroke, such as a shadow, a vignette
or the edge of a table, is background. And its outline is where the picture is steepest. Only on a
ground of one colour (`even_ground.py`) it may be of any width.
"""

import contextlib
import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.even_ground import find_even_ground
from cnn_jax.preprocessing.ink import (
    LUMA,
    Floats,
    Ink,
    Mask,
    squared_gradient,
)
from cnn_jax.preprocessing.sheet import find_sheet_or_frame
from cnn_jax.preprocessing.threshold import threshold_ink

_SEARCH_SIDE = 160  # Pixels of the longer side of a view. More take longer and find no more ink.
_MIN_NEARER = 0.5  # Scale of a second view, as a part of the first one's, that shows no more.
_MAX_NESTED = 3  # Sheets and frames around a digit: a form on a desk, a box on the form.


@dataclasses.dataclass(frozen=True)
class View:
    """A part of a picture, reduced, and the ink on it.

    Attributes:
      picture: RGB, the part of the picture.
      origin: its left and upper end on the whole picture, in pixels.
      pixels_u8: uint8 [H, W, 3], RGB, of a reduced copy,
      ink: the ink on it, and
      scale: the number of pixels of the picture per pixel of that copy.
    """

    picture: Image.Image
    origin: tuple[float, float]
    pixels_u8: npt.NDArray[np.uint8]
    ink: Ink
    scale: float

    def box_on_picture(self) -> tuple[float, float, float, float]:
        """Returns the left, upper, right and lower end of the ink on the whole picture."""
        x, y = self.origin
        left, upper, right, lower = (self.scale * end for end in self.ink.box)
        return x + left, y + upper, x + right, y + lower


def find_ink(picture: Image.Image) -> Ink:
    """Finds all ink on an RGB picture.

    Raises:
      PhotoError: when the picture shows no ink.
    """
    rough = search_picture(picture)
    fine = search_again(rough)
    is_doubtful = rough.ink.is_doubtful or fine.ink.is_doubtful
    return dataclasses.replace(fine.ink, is_doubtful=is_doubtful)


def search_picture(picture: Image.Image) -> View:
    """Finds where on an RGB picture the ink is, roughly.

    Where a sheet or a frame surrounds the ink, only its inside is searched.

    Raises:
      PhotoError: when the picture shows no ink.
    """
    view = segment_part(picture, (0, 0), max(picture.size) / 2)
    with contextlib.suppress(PhotoError):  # No ink inside: the sheet or frame is the drawing.
        # Printed lines that cross the whole picture: all of it is paper.
        for _ in range(0 if view.ink.has_rules else _MAX_NESTED):
            region = find_sheet_or_frame(view.pixels_u8, view.ink)
            if region is None:
                break
            inside, (left, upper) = crop_to_region(view.picture, region)
            origin = view.origin[0] + left, view.origin[1] + upper
            view = segment_part(inside, origin, max(inside.size) / 2)
    return view


def search_again(view: View) -> View:
    """Finds the ink of a view again, only where it is, which shows its strength.

    Raises:
      PhotoError: when there is no ink.
    """
    left, upper, right, lower = (view.scale * end for end in view.ink.box)
    longest = max(right - left, lower - upper)
    margin = longest / 2
    box = (
        round(max(left - margin, 0)),
        round(max(upper - margin, 0)),
        round(min(right + margin, view.picture.width)),
        round(min(lower + margin, view.picture.height)),
    )
    part = view.picture.crop(box)
    scale = max(1.0, max(part.size) / _SEARCH_SIDE)
    if view.ink.has_even_ground and scale > _MIN_NEARER * view.scale:
        return view  # A ground of one colour looks the same from hardly nearer.
    origin = view.origin[0] + box[0], view.origin[1] + box[1]
    return segment_part(part, origin, longest)


def segment_part(
    picture: Image.Image,
    origin: tuple[float, float],
    longest: float,
    side: int = _SEARCH_SIDE,
) -> View:
    """Segments a part of a picture.

    Args:
      picture: RGB.
      origin: left and upper end of the part, in pixels of the whole picture.
      longest: approximate longer side of the drawing, in pixels. No stroke is half as wide.
      side: pixels of the longer side of the reduced copy that is searched.

    Raises:
      PhotoError: when there is no ink.
    """
    pixels_u8 = np.asarray(shrink_to(picture, side))
    scale = max(picture.size) / max(pixels_u8.shape[:2])
    ink = segment_ink(pixels_u8, max_stroke_width=longest / 2 / scale)
    if ink is None:
        raise PhotoError("shows nothing: all its pixels have one colour")
    return View(picture, origin, pixels_u8, ink, scale)


def crop_to_region(picture: Image.Image, region: Mask) -> tuple[Image.Image, tuple[int, int]]:
    """Crops a picture to the bounding box of a region and extends the region over the rest of it.

    Returns the result, and its left and upper end on the picture.

    Args:
      picture: RGB.
      region: bool [H, W], of a reduced view.
    """
    view = np.asarray(picture.resize(region.shape[::-1], Image.Resampling.BOX))
    nearest = ndimage.distance_transform_edt(~region, return_distances=False, return_indices=True)
    background = Image.fromarray(view[tuple(nearest)]).resize(picture.size)
    mask = Image.fromarray(region).resize(picture.size)
    box = mask.getbbox()
    assert box  # A region has pixels.
    return Image.composite(picture, background, mask).crop(box), box[:2]


def shrink_to(picture: Image.Image, side: int) -> Image.Image:
    """Returns a copy whose longer side is at most `side` pixels, each the average of an area."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.BOX)
    return small


def segment_ink(pixels_u8: npt.NDArray[np.uint8], max_stroke_width: float) -> Ink | None:
    """Separates ink from background.

    Args:
      pixels_u8: uint8 [H, W, 3], RGB. 160 pixels a side are enough, and fast.
      max_stroke_width: in pixels. Anything wider is background.

    Returns:
      Ink of at least one pixel, or None where all pixels have one colour.
    """
    # In any large picture noise is finer than strokes.
    sigma = min(max(pixels_u8.shape), _SEARCH_SIDE) / 300
    pixels = ndimage.gaussian_filter(pixels_u8.astype(np.float32), (sigma, sigma, 0))
    if even := find_even_ground(pixels_u8):
        return _segment_on_even_ground(pixels, *even)
    size = max(3, round(max_stroke_width))
    difference = pixels - _fit_background(pixels)
    direction = _ink_direction(difference)
    # Both polarities are tried. The paper inside a 0 is as narrow as the ink around it, but it is
    # level with the background, so that cutting off the background leaves it no edges.
    lighter, darker = (
        _remove_wide(np.maximum(tone, 0.0), size)
        for tone in (difference @ direction, -difference @ direction)
    )
    is_dark = bool(np.sum(squared_gradient(darker)) > np.sum(squared_gradient(lighter)))
    # From the pixels, not from `difference`: the fitted surface lies midway between a sheet and its
    # table, which would pass for ink.
    depth = _remove_wide(pixels @ (-direction if is_dark else direction), size)
    return threshold_ink(depth, is_dark)


def _segment_on_even_ground(
    pixels: Floats, ground: Floats, inside: tuple[slice, slice]
) -> Ink | None:
    """Separates ink from a ground of one colour.

    Args:
      pixels: float32 [H, W, 3], RGB.
      ground: float32 [3], the colour, and
      inside: the rows and columns that may hold ink, from `find_even_ground`.
    """
    difference = pixels[inside] - ground
    tone = difference @ _ink_direction(difference)
    is_dark = bool(np.sum(tone) < 0)
    depth = np.zeros(pixels.shape[:2], np.float32)
    depth[inside] = np.maximum(-tone if is_dark else tone, 0.0)
    return threshold_ink(depth, is_dark, has_even_ground=True)


def _fit_background(pixels: Floats) -> Floats:
    """Fits a smooth surface to most pixels: a quadratic in x and y, as lighting is smooth.

    Args:
      pixels: float32 [H, W, 3].

    Returns:
      float32 [H, W, 3], the surface.
    """
    height, width, _ = pixels.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).astype(np.float32)
    stride = max(1, max(height, width) // 64)  # Six coefficients need no more than 64x64 pixels.
    sample = pixels[::stride, ::stride].reshape(-1, 3)
    sample_terms = terms[::stride, ::stride].reshape(-1, 6)
    surface = np.zeros((6, 3), np.float32)
    surface[0] = np.median(sample, axis=0)
    # Iteratively reweighted least squares with Cauchy weights. The number of terms grows from
    # constant to plane to quadratic: a quadratic from the start would follow the ink.
    for num_terms in (1, 1, 3, 3, 3, 6, 6, 6, 6):
        distance = np.linalg.norm(sample - sample_terms @ surface, axis=1)
        scale = max(1.5 * float(np.median(distance)), 1.0)  # Most weights are more than a half.
        weights = 1 / (1 + (distance / scale) ** 2)[:, np.newaxis]
        used = sample_terms[:, :num_terms]
        normal, moment = used.T @ (weights * used), used.T @ (weights * sample)
        surface[:num_terms] = np.linalg.lstsq(normal, moment)[0]
    return terms @ surface


def _ink_direction(difference: Floats) -> Floats:
    """Returns the main direction of [H, W, 3] differences: a unit colour, towards lighter."""
    flat = difference.reshape(-1, 3)
    _, directions = np.linalg.eigh(flat.T @ flat)
    direction = directions[:, -1]
    return direction if direction @ LUMA > 0 else -direction


def _remove_wide(tone: Floats, size: int) -> Floats:
    """Keeps of a [H, W] tone what rises above its surroundings and holds no square of `size`."""
    return ndimage.white_tophat(tone, size=size, mode="nearest")
