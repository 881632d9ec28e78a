"""Finds a sheet of paper on a table, or a printed frame, in which the ink is to be searched."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cnn_jax.preprocessing.ink import (
    CONNECTIVITY,
    LUMA,
    Floats,
    Ink,
    Mask,
    fill_holes,
    is_clear_of_border,
    longer_side,
    squared_gradient,
)

_MIN_RECTANGULARITY = 0.88  # An ellipse fills 0.79 of its rectangle, a sheet seen askew 0.9.
_MIN_SHEET_FILL = 0.7  # Part of a sheet that is paper, not ink.
_MAX_FRAME_FILL = 0.5  # Part of a frame that is line or content. A square 0 or 8 is in between.


def find_sheet_or_frame(pixels_u8: npt.NDArray[np.uint8], ink: Ink) -> Mask | None:
    """Finds a sheet that lies on a table, or the inside of a frame, if it contains ink.

    Args:
      pixels_u8: uint8 [H, W, 3], RGB.
      ink: ink segmented from these pixels. Often it is the frame, or the narrow part of the sheet.

    Returns:
      bool [H, W], the region to search again, or None where there is neither.
    """
    sigma = max(pixels_u8.shape) / 300
    tone = ndimage.gaussian_filter((pixels_u8 @ LUMA).astype(np.float32), sigma)
    # The threshold is the mean tone of the edges. Without 1e-9 colours of equal luma, which have no
    # edge, would leave weights of sum zero.
    threshold = np.average(tone, weights=squared_gradient(tone) ** 2 + 1e-9)
    # A sheet may be wide, which only its tone shows. A frame in uneven light only its ink shows.
    masks = [tone > threshold, tone < threshold]
    if not ink.has_even_ground:
        masks.append(ink.strength > 0.5)
    for mask in masks:
        region = _rectangle_interior(mask)
        if region is not None and _contains_ink(tone, region):
            return region
    return None


def _rectangle_interior(mask: Mask) -> Mask | None:
    """Returns the area of the largest component if it is a sheet, its holes if it is a frame."""
    labels, _ = ndimage.label(mask, CONNECTIVITY)
    sizes = [
        mask[box].size if is_clear_of_border(box, mask.shape) else 0
        for box in ndimage.find_objects(labels)
    ]
    if not any(sizes):
        return None
    component = labels == 1 + np.argmax(sizes)
    filled = fill_holes(component)
    if _rectangularity(filled) < _MIN_RECTANGULARITY:
        return None
    fill = np.mean(mask[filled])
    if _MAX_FRAME_FILL < fill < _MIN_SHEET_FILL:
        return None
    region = filled if fill >= _MIN_SHEET_FILL else filled & ~component
    return ndimage.binary_erosion(region, iterations=3)  # Clear of the soft, blurred edge.


def _contains_ink(tone: Floats, region: Mask) -> bool:
    """Returns whether more than a speck stands out in it: a 1 of a thick pen is a rectangle too."""
    if not region.any():
        return False
    difference = np.abs(tone - np.median(tone[region])) * region
    if np.max(difference) < 0.2 * np.ptp(tone):
        return False
    labels, _ = ndimage.label(difference > np.max(difference) / 2, CONNECTIVITY)
    longest = max(map(longer_side, ndimage.find_objects(labels)), default=0)
    return longest >= 0.1 * longer_side(ndimage.find_objects(region.astype(np.int8))[0])


def _rectangularity(filled: Mask) -> float:
    """Returns the ratio of an area to its smallest enclosing rectangle, at any angle; at most 1."""
    y, x = np.nonzero(filled & ~ndimage.binary_erosion(filled))
    angles = np.deg2rad(np.arange(0, 90, 3))[:, np.newaxis]
    sides = [
        np.ptp(x * np.cos(angle) + y * np.sin(angle), axis=1) + 1
        for angle in (angles, angles + np.pi / 2)
    ]
    return float(np.sum(filled) / np.min(sides[0] * sides[1]))
