"""Finds an even ground: of a drawing program, a scan, a picture cut along the digit.

Such a ground has one colour, and ink is whatever differs from it: of any width, also where it
touches the border. Only thin lines along the border are none.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cnn_jax.preprocessing.ink import is_clear_of_border

_SAMPLE_SIDE = 80  # Pixels of the longer side from which on a part of them tells the colour.
_TOLERANCE = 12  # Levels of 255 by which the ground may differ from its commonest colour.
_CLEAR = 36  # Levels of 255 by which ink differs from the ground.
_MIN_CLEAR = 0.5  # Part of what is no ground that must be so clear.
_MIN_OF_BORDER = 0.5  # Part of the border that must be ground.
_MIN_OF_ALL = 1 / 3  # Part of all pixels that must be ground.
_MAX_WIDE = 0.7  # Of the longer side: at the border no stroke is so wide, but a shadow is.
_MIN_BAND_FILL = 0.75  # Part of its bounding box that a band of shadow along one side fills.
_MAX_SOFT = 0.02  # Of the longer side: a wider edge is that of a shadow,
_SOFT_PIXELS = 3.0  # but not an edge of so many pixels: tiny pictures were enlarged smoothly.
_LINE_WIDTH = 0.04  # Of the side across: a line along the border is at most so wide.
_LINE_LENGTH = 0.9  # Of the side along which it runs.


def find_even_ground(
    pixels_u8: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], tuple[slice, slice]] | None:
    """Finds the colour of an even ground, and the part of a picture inside of border lines.

    Args:
      pixels_u8: uint8 [H, W, 3], RGB.

    Returns:
      The colour, float32 [3], and the rows and columns inside; None where the ground is not even.
    """
    stride = max(1, max(pixels_u8.shape[:2]) // _SAMPLE_SIDE)
    ground = commonest_colour(pixels_u8[::stride, ::stride])
    distance = np.abs(pixels_u8.astype(np.float32) - ground)
    difference = np.maximum(np.maximum(distance[..., 0], distance[..., 1]), distance[..., 2])
    is_ground = difference <= _TOLERANCE
    if np.sum(difference > _CLEAR) < _MIN_CLEAR * np.sum(~is_ground):
        return None  # Most of the rest is only a little darker or lighter: light that falls askew.
    inside = _inside_of_lines(is_ground, 0), _inside_of_lines(is_ground, 1)
    is_ground = is_ground[inside]
    if _has_shadow(difference[inside]):
        return None
    border = np.concatenate([is_ground[0], is_ground[-1], is_ground[1:-1, 0], is_ground[1:-1, -1]])
    if np.mean(border) < _MIN_OF_BORDER or np.mean(is_ground) < _MIN_OF_ALL:
        return None
    return ground, inside


def _has_shadow(difference: npt.NDArray[np.float32]) -> bool:
    """Returns whether what is no ground is softer than ink, or wider where it touches the border.

    Args:
      difference: float32 [H, W], levels of 255 from the ground.
    """
    mask = difference > _CLEAR
    if not mask.any() or min(mask.shape) < 2:
        return False
    strength = np.clip(difference / np.percentile(difference[mask], 75), 0, 1)
    # The length of the outline is the total variation (the coarea formula).
    outline = np.sum(np.hypot(*np.gradient(strength)))
    soft = np.sum((strength > 0.2) & (strength < 0.8)) / max(outline, 1.0)
    if soft > max(_SOFT_PIXELS, _MAX_SOFT * max(mask.shape)):
        return True
    labels, _ = ndimage.label(mask)
    boxes = enumerate(ndimage.find_objects(labels), 1)
    at_border = [(index, box) for index, box in boxes if not is_clear_of_border(box, mask.shape)]
    if not at_border:
        return False
    radius = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    for index, box in at_border:
        part = labels[box] == index
        if 2 * np.max(radius[box][part]) > _MAX_WIDE * max(mask.shape):
            return True
        if _is_along_side(box, mask.shape) and np.mean(part) > _MIN_BAND_FILL:
            return True
    return False


def _is_along_side(box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether a box covers a side of the picture, but not all of the picture."""
    is_full = [s.stop - s.start == side for s, side in zip(box, shape, strict=True)]
    touches = [s.start == 0 or s.stop == side for s, side in zip(box, shape, strict=True)]
    return sum(is_full) == 1 and all(touches)


def commonest_colour(pixels_u8: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Returns the median of the pixels in the fullest cell of colour space, float32 [3]."""
    flat = pixels_u8.reshape(-1, 3)
    # Cells of 16 levels; noise may be on the edge of two of them, so neighbours count as well.
    cells = flat >> 4
    red, green, blue = cells.T.astype(np.uint16)
    index = (red << 8) | (green << 4) | blue
    counts = np.bincount(index, minlength=4096).reshape(16, 16, 16).astype(np.float32)
    smooth = ndimage.uniform_filter(counts, 2, mode="constant")
    corner = np.array(np.unravel_index(np.argmax(smooth), smooth.shape))
    # The filter of size 2 averages a cell and the one before it on each axis.
    is_near = [(axis >= end - 1) & (axis <= end) for axis, end in zip(cells.T, corner, strict=True)]
    near = is_near[0] & is_near[1] & is_near[2]
    return np.median(flat[near], axis=0).astype(np.float32)


def _inside_of_lines(is_ground: npt.NDArray[np.bool_], axis: int) -> slice:
    """Returns the rows (axis 0) or columns (1) without the lines along the border."""
    share = np.mean(~is_ground, axis=1 - axis)
    size = len(share)
    widest = min(max(1, int(_LINE_WIDTH * size)), size // 3)  # Most of a tiny picture must stay.
    bounds = []
    for outermost in (share, share[::-1]):
        line = np.flatnonzero(outermost[: widest + 1] >= _LINE_LENGTH)
        # A wider bar is part of the drawing.
        width = int(line[-1]) + 1 if len(line) else 0
        bounds.append(width if width <= widest else 0)
    return slice(bounds[0], size - bounds[1])
