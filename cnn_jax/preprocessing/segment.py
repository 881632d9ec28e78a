"""Finds what is drawn on a picture, whatever its colours and its light, and draws it as asked.

What is found rests on three traits of ink. It has one colour, which differs from its background in
one direction. It is narrow: what goes on for longer than a stroke is wide, such as a shadow, a
vignette or the edge of the table, is background. And it ends where the picture is steepest.
"""

import contextlib
import dataclasses

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cnn_jax.preprocessing import segment
from cnn_jax.preprocessing.decode import PhotoError

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_LEAST_CONTRAST = 6.0  # Of 255: compression alone draws as much on an even picture.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L.
_NEIGHBOURS = np.ones((3, 3), bool)  # Pixels that touch at a corner are of one stroke.
_LEAST_STRENGTH = 0.1  # What is fainter is paper: the box of the ink must not depend on its noise.
_RECTANGULAR = 0.88  # Of the tightest rectangle: an ellipse fills 0.79, a sheet seen askew 0.9.
_SHEET = 0.7  # Its paper is at least that much of it, beside the ink.
_FRAME = 0.5  # Its lines and what it holds are at most that much; a square 0 or 8 is in between.


@dataclasses.dataclass(frozen=True)
class Ink:
    """What is drawn on a picture.

    Attributes:
      strength: float32 [H, W], 0 (background) to 1 (the middle of a stroke); 1 somewhere.
      is_dark: whether it is darker than its background.
    """

    strength: Floats
    is_dark: bool

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Its left, upper, right and lower end in pixels, the last two exclusive."""
        return bounding_box(self.strength)


def segment_ink(pixels_u8: npt.NDArray[np.uint8], widest: float) -> Ink | None:
    """Tells ink from background.

    Args:
      pixels_u8: uint8 [H, W, 3]: red, green and blue. 240 pixels a side are enough, and fast.
      widest: in pixels: no stroke is wider.

    Returns:
      Ink of at least one pixel, or None where everything is of one colour.
    """
    grain = max(pixels_u8.shape) / 300  # Sensor noise is finer than strokes, on any large picture.
    pixels = ndimage.gaussian_filter(pixels_u8.astype(np.float32), (grain, grain, 0))
    size = max(3, round(widest))
    off = pixels - _background(pixels)
    direction = _direction(off)
    # Both polarities are tried. The paper within an 0 is as narrow as the ink around it, but lies
    # on the background, so that it has no edges left once that is cut off.
    lighter, darker = (
        _narrow(np.maximum(tone, 0.0), size) for tone in (off @ direction, -off @ direction)
    )
    is_dark = bool(np.sum(_steepness(darker)) > np.sum(_steepness(lighter)))
    # The surface has served: it passes midway between a sheet and its table, which is no ink.
    depth = _narrow(pixels @ (-direction if is_dark else direction), size)
    if np.max(depth) < _LEAST_CONTRAST:
        return None
    # Half-way into the ink, however little there is of it: a histogram would not show it. The
    # square again: noise is everywhere, and faint ink is hardly steeper.
    edge = np.average(depth, weights=_steepness(depth) ** 2)
    mask = _without_specks(depth > edge)
    paper = np.median(depth[depth <= edge])
    full = np.percentile(depth[mask], 75)
    strength = np.clip((depth - paper) / (full - paper), 0.0, 1.0)
    strength[~ndimage.binary_dilation(mask, _NEIGHBOURS)] = 0.0  # Soft edges are of the stroke.
    strength[strength < _LEAST_STRENGTH] = 0.0
    return Ink(strength.astype(np.float32), is_dark)


def find_sheet_or_frame(pixels_u8: npt.NDArray[np.uint8], ink: Ink) -> Mask | None:
    """Where to look again: on a sheet that lies on a table, or within a frame.

    Args:
      pixels_u8: uint8 [H, W, 3].
      ink: what was found on them: often the sheet, as far as it is narrow, or the frame.

    Returns:
      bool [H, W], or None where there is neither.
    """
    grain = max(pixels_u8.shape) / 300
    tone = ndimage.gaussian_filter((pixels_u8 @ _LUMA).astype(np.float32), grain)
    # As in `find`; colours that are equally light have no edge.
    edge = np.average(tone, weights=_steepness(tone) ** 2 + 1e-9)
    # A sheet need not be narrow, so that its tone shows all of it; uneven light hides a frame's.
    for mask in (tone > edge, tone < edge, ink.strength > 0.5):
        place = _within_rectangle(mask)
        if place is not None and _holds_ink(tone, place):
            return place
    return None


def _within_rectangle(mask: Mask) -> Mask | None:
    """What its largest part covers, if that is a sheet, or encloses, if it is a frame."""
    labels, _ = ndimage.label(mask, _NEIGHBOURS)
    sizes = [
        mask[place].size if _is_whole(place, mask.shape) else 0
        for place in ndimage.find_objects(labels)
    ]
    if not any(sizes):
        return None
    part = labels == 1 + np.argmax(sizes)
    filled = ndimage.binary_fill_holes(part)
    if _rectangularity(filled) < _RECTANGULAR:
        return None
    solid = np.mean(mask[filled])
    if _FRAME < solid < _SHEET:
        return None
    place = filled if solid >= _SHEET else filled & ~part
    # Clear of the soft edge, with what the blur has spread.
    found: Mask = ndimage.binary_erosion(place, iterations=3)
    return found


def _holds_ink(tone: Floats, place: Mask) -> bool:
    """Whether something there stands out that is no speck: a 1 of a fat pen is a rectangle too."""
    if not place.any():
        return False
    off = np.abs(tone - np.median(tone[place])) * place
    if np.max(off) < 0.2 * np.ptp(tone):
        return False
    labels, _ = ndimage.label(off > np.max(off) / 2, _NEIGHBOURS)
    longest = max(map(_side, ndimage.find_objects(labels)), default=0)
    return longest >= 0.1 * _side(ndimage.find_objects(place.astype(np.int8))[0])


def _is_whole(place: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    """Whether the border does not cut it."""
    return all(s.start > 0 and s.stop < side for s, side in zip(place, shape, strict=True))


def _side(place: tuple[slice, ...]) -> int:
    longer: int = max(s.stop - s.start for s in place)
    return longer


def _rectangularity(filled: Mask) -> float:
    """Which part it is of the tightest rectangle around it, of any direction."""
    y, x = np.nonzero(filled & ~ndimage.binary_erosion(filled))
    angles = np.deg2rad(np.arange(0, 90, 3))[:, np.newaxis]
    sides = [
        np.ptp(x * np.cos(turned) + y * np.sin(turned), axis=1) + 1
        for turned in (angles, angles + np.pi / 2)
    ]
    return float(np.sum(filled) / np.min(sides[0] * sides[1]))


def _background(pixels: Floats) -> Floats:
    """The smooth surface that most pixels lie near: of second order in x and y, as light is.

    Args:
      pixels: float32 [H, W, 3].

    Returns:
      float32 [H, W, 3].
    """
    height, width, _ = pixels.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).astype(np.float32)
    stride = max(1, max(height, width) // 64)  # Six numbers need no more than 64x64 pixels.
    sample = pixels[::stride, ::stride].reshape(-1, 3)
    sample_terms = terms[::stride, ::stride].reshape(-1, 6)
    surface = np.zeros((6, 3), np.float32)
    surface[0] = np.median(sample, axis=0)
    # Least squares, reweighted (Cauchy's weights). From the constant over the plane to the curved
    # surface: curved at once, it would begin by following the ink.
    for order in (1, 1, 3, 3, 3, 6, 6, 6, 6):
        distance = np.linalg.norm(sample - sample_terms @ surface, axis=1)
        scale = max(1.5 * float(np.median(distance)), 1.0)  # Most pixels weigh more than a half.
        weights = 1 / (1 + (distance / scale) ** 2)[:, np.newaxis]
        some = sample_terms[:, :order]
        surface[:order] = np.linalg.lstsq(some.T @ (weights * some), some.T @ (weights * sample))[0]
    found: Floats = terms @ surface
    return found


def _direction(off: Floats) -> Floats:
    """The colour, as a unit vector towards light, along which a picture leaves its background."""
    flat = off.reshape(-1, 3)
    _, directions = np.linalg.eigh(flat.T @ flat)
    direction: Floats = directions[:, -1]
    return direction if direction @ _LUMA > 0 else -direction


def _narrow(tone: Floats, size: int) -> Floats:
    """What of it rises above its surroundings and holds no square of `size` pixels; [H, W]."""
    found: Floats = ndimage.white_tophat(tone, size=size, mode="nearest")
    return found


def _steepness(tone: Floats) -> Floats:
    """The squared gradient, [H, W]: strong edges count, noise hardly."""
    found: Floats = ndimage.gaussian_gradient_magnitude(tone, 0.5) ** 2
    return found


def _without_specks(mask: Mask) -> Mask:
    """Without what is small, or cut by the border, unless there is nothing else."""
    labels, _ = ndimage.label(mask, _NEIGHBOURS)
    least = max(2, 0.04 * max(mask.shape))
    wanted = np.array(
        [
            _is_whole(place, mask.shape) and _side(place) >= least
            for place in ndimage.find_objects(labels)
        ]
    )
    areas = np.bincount(labels.ravel())[1:] * (wanted if wanted.any() else ~wanted)
    # The smallest part of a digit, the stroke on top of a 5, is larger than that.
    found: Mask = np.isin(labels, 1 + np.flatnonzero(areas >= 0.05 * areas.max()))
    return found


def bounding_box(strength: Floats) -> tuple[int, int, int, int]:
    rows, columns = ndimage.find_objects((strength > 0.0).astype(np.int8))[0]
    return columns.start, rows.start, columns.stop, rows.stop


_SEARCHED = 240  # Pixels a side in which ink is looked for: more costs time, and finds no more.


_NESTED = 3  # Most sheets and frames around a digit: a form on a desk, a box on the form.


def find_ink(picture: Image.Image) -> segment.Ink:
    """Looks twice: at everything, for where the ink is, and at that place, for what it is.

    Where a sheet or a frame was found for ink, everything is what it holds.
    """
    rough, scale = _segment_view(picture, max(picture.size) / 2)
    with contextlib.suppress(PhotoError):  # It holds nothing: it is the drawing after all.
        for _ in range(_NESTED):
            find_sheet_or_frame = segment.find_sheet_or_frame(
                np.asarray(shrink_to(picture, _SEARCHED)), rough
            )
            if find_sheet_or_frame is None:
                break
            held = _crop_to_region(picture, find_sheet_or_frame)
            rough, scale = _segment_view(held, max(held.size) / 2)
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
    found, _ = _segment_view(picture.crop(place), longest)
    return found


def _segment_view(picture: Image.Image, longest: float) -> tuple[segment.Ink, float]:
    """The ink on a reduced view, and how many pixels of the picture one of the view stands for.

    Args:
      picture: RGB.
      longest: about the longer side of what is drawn, in pixels; no stroke is half as wide.

    Raises:
      PhotoError: when there is no ink.
    """
    view = shrink_to(picture, _SEARCHED)
    scale = max(picture.size) / max(view.size)
    found = segment.segment_ink(np.asarray(view), widest=longest / 2 / scale)
    if found is None:
        raise PhotoError("shows nothing: it is of one colour")
    return found, scale


def _crop_to_region(picture: Image.Image, place: segment.Mask) -> Image.Image:
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


def shrink_to(picture: Image.Image, side: int) -> Image.Image:
    """A copy whose longer side is at most that many pixels, each the average of an area."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.BOX)
    return small
