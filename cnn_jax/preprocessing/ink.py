"""Ink on a picture, and what the search for it measures."""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L.
CONNECTIVITY = np.ones((3, 3), bool)  # Pixels that touch at a corner belong to one stroke.


@dataclasses.dataclass(frozen=True)
class Ink:
    """The ink of a drawing.

    Attributes:
      strength: float32 [H, W], from 0 (background) to 1 (middle of a stroke); its maximum is 1.
      is_dark: whether the ink is darker than its background.
      has_even_ground: whether the background is of one colour.
      has_rules: whether the paper has printed lines, which are no ink.
      is_doubtful: whether it may be no writing but the paper's texture, or its printed lines.
    """

    strength: Floats
    is_dark: bool
    has_even_ground: bool = False
    has_rules: bool = False
    is_doubtful: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box (left, upper, right, lower) in pixels; right and lower are exclusive."""
        return bounding_box(self.strength)


def bounding_box(strength: Floats) -> tuple[int, int, int, int]:
    """Returns (left, upper, right, lower) of the positive values; the last two are exclusive."""
    mask = strength > 0.0
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def squared_gradient(tone: Floats) -> Floats:
    """Returns the squared gradient magnitude, [H, W]: large at strong edges, small for noise."""
    return ndimage.gaussian_gradient_magnitude(tone, 0.5) ** 2


def dilate(mask: Mask, pixels: int) -> Mask:
    """Returns a mask that is grown by some pixels in all eight directions, bool [H, W]."""
    grown: Mask = ndimage.maximum_filter(mask, 2 * pixels + 1, mode="constant")
    return grown


def fill_holes(mask: Mask) -> Mask:
    """Returns a mask without holes, bool [H, W].

    As `ndimage.binary_fill_holes`, which takes ten times as long: it grows the outside pixel by
    pixel.
    """
    labels, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return np.asarray(labels != labels[0, 0])[1:-1, 1:-1]


def is_clear_of_border(box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    return all(s.start > 0 and s.stop < side for s, side in zip(box, shape, strict=True))


def longer_side(box: tuple[slice, ...]) -> int:
    return max(s.stop - s.start for s in box)
