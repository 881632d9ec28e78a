"""Removes the printed lines of paper: rules, squares, the lines of a table."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cnn_jax.preprocessing.ink import CONNECTIVITY, Floats, Mask

_MARGIN = 0.08  # Of the width or height: so near to the border a line must begin and end.
_MAX_WIDTH = 0.025  # Of the picture's longer side. A thicker line is a stroke.
_PIECE = 0.25  # Part of the width or height over which a line must be straight.
_MAX_TILT = 0.1  # Rise of a line by its run: 6 degrees.


def remove_rules(depth: Floats, threshold: float) -> tuple[Floats, Mask]:
    """Removes thin lines that cross the whole picture, but not the strokes that cross them.

    Args:
      depth: float32 [H, W], levels by which pixels rise above the paper.
      threshold: the depth from which a pixel may be ink.

    Returns:
      The depth without the lines, float32 [H, W], and bool [H, W], where they are.
    """
    rules = np.zeros(depth.shape, bool)
    labels, _ = ndimage.label(depth > threshold / 2, CONNECTIVITY)
    boxes = ndimage.find_objects(labels)
    for axis in (0, 1):
        # Where rules cross, the second pass takes what the first one left of the other rules.
        along = depth if axis == 0 else depth.T
        if not any(_reaches_border(box if axis == 0 else box[::-1], along.shape) for box in boxes):
            continue  # Nothing is long and level, as on most pictures.
        found, width = _find_level_rules(along, threshold / 2)
        if not found.any():
            continue
        across = ndimage.grey_opening(along, (width + 2, 1), mode="constant")
        cleaned = np.where(found, np.minimum(across, along), along)
        depth = cleaned if axis == 0 else cleaned.T
        rules |= found if axis == 0 else found.T
    return depth, rules


def _reaches_border(box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether a level line in this box begins and ends at the border of the picture."""
    height, width = shape
    rows, columns = box
    # A tilted line may leave the picture through its top or bottom.
    at_edge = rows.start <= _MARGIN * height / 4 or rows.stop >= height - _MARGIN * height / 4
    is_left, is_right = columns.start <= _MARGIN * width, columns.stop >= (1 - _MARGIN) * width
    return (is_left and is_right) or (at_edge and (is_left or is_right))


def _find_level_rules(depth: Floats, threshold: float) -> tuple[Mask, int]:
    """Finds lines that are level but for a small tilt.

    Returns:
      bool [H, W], the lines and the pixel on either side, and the width of the widest in pixels.
    """
    height, width = depth.shape
    size = min(max(3, round(_PIECE * width)), width)
    ink = depth > threshold
    # A line may bend by a pixel within a piece of it.
    thick = ndimage.maximum_filter1d(ink, 3, axis=0)
    rows, columns = np.ogrid[:height, :width]
    straight = np.zeros(depth.shape, bool)
    for rise in range(-round(_MAX_TILT * size), round(_MAX_TILT * size) + 1):
        shift = np.rint(rise / size * (columns - width / 2)).astype(int)
        down, up = (np.clip(rows + s, 0, height - 1) * width + columns for s in (shift, -shift))
        level = _open_level(thick.take(down), size)
        straight |= level.take(up)
    labels, _ = ndimage.label(straight, CONNECTIVITY)
    found = np.zeros(depth.shape, bool)
    widest = 0
    for index, box in enumerate(ndimage.find_objects(labels), 1):
        if not _reaches_border(box, depth.shape):
            continue
        line = labels[box] == index
        line_width = _line_width(line & ink[box])
        if line_width <= _MAX_WIDTH * max(depth.shape):
            found[box] |= line
            widest = max(widest, line_width)
    return found, widest


def _open_level(mask: Mask, size: int) -> Mask:
    """Keeps level pieces of at least `size` pixels, in a tenth of `binary_opening`'s time."""
    is_full = _sum_windows(mask, size) == size
    return _sum_windows(np.pad(is_full, ((0, 0), (size - 1, size - 1))), size) > 0


def _sum_windows(mask: Mask, size: int) -> npt.NDArray[np.int32]:
    """Returns the number of true pixels in all windows of 1 x size pixels."""
    total = np.cumsum(np.pad(mask, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    return np.asarray(total[:, size:] - total[:, :-size])


def _line_width(mask: Mask) -> int:
    """Returns the width in pixels of level lines, some of which strokes may join or follow."""
    pixels = np.sum(mask, axis=0)
    lines = np.sum(np.diff(mask, axis=0, prepend=False) & mask, axis=0)
    # The median over columns: where strokes cross the lines they are wider.
    return int(np.median(pixels / np.maximum(lines, 1)))
