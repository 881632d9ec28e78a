"""Finds where ink that is wide may be cut into digits."""

import dataclasses

import numpy as np
from scipy import ndimage

from cnn_jax.preprocessing.ink import Floats

_MIN_WIDE = 0.85  # Width over height of ink that may be two digits.
_SLOPES = (0.0, -0.2, 0.2, -0.4, 0.4, -0.6)  # Of cuts: columns per row. Most people lean right.
_MAX_CROSSED = 0.35  # Of the height: the ink that a cut crosses.
_MAX_CUTS = 6  # Of ink that may be several digits.
MIN_WIDTH = 0.12  # Width over height of a digit.


@dataclasses.dataclass(frozen=True)
class Cut:
    """A straight cut through ink from top to bottom.

    Attributes:
      column: where it is at half the height.
      slope: columns by which it moves to the left per row upwards.
    """

    column: float
    slope: float


def find_cuts(strength: Floats, height: float) -> list[Cut]:
    """Finds the cuts through ink [H, W] that cross least of it, from left to right.

    Args:
      strength: float32 [H, W], 0..1, the ink.
      height: of the line's digits, in pixels.
    """
    if strength.shape[1] < _MIN_WIDE * height:
        return []
    crossed = np.array([_crossed(strength, slope) for slope in _SLOPES]) / height
    slope = np.argmin(crossed, axis=0)
    crossed = np.min(crossed, axis=0)
    distance = max(2, round(MIN_WIDTH * height))
    is_lowest = crossed == ndimage.minimum_filter1d(crossed, 2 * distance + 1)
    is_lowest &= crossed <= _MAX_CROSSED
    is_lowest[:distance] = is_lowest[-distance:] = False
    columns = [int(c) for c in np.flatnonzero(is_lowest)]
    columns = [c for i, c in enumerate(columns) if i == 0 or c - columns[i - 1] >= distance]
    best = sorted(sorted(columns, key=lambda c: crossed[c])[:_MAX_CUTS])
    return [Cut(c, _SLOPES[slope[c]]) for c in best]


def _crossed(strength: Floats, slope: float) -> Floats:
    """Returns how much ink cuts of a slope cross, by the column at half the height: [W]."""
    height, width = strength.shape
    rows, columns = np.ogrid[:height, :width]
    sheared = np.rint(columns + slope * (rows - height / 2)).astype(int)
    is_inside = (sheared >= 0) & (sheared < width)
    ink = np.where(is_inside, strength[rows, np.clip(sheared, 0, width - 1)], 0)
    return np.asarray(ndimage.gaussian_filter1d(np.sum(ink, axis=0), 0.02 * height), np.float32)
