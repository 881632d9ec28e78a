"""Strokes that many people write and MNIST hardly has: flags and base lines of 1, crossed 7."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

NUM_DRAWS = 6
_INK = 0.5  # Share of an image's largest value from which a pixel belongs to its digit.


class WithStrokes(NamedTuple):
    """A digit with added strokes, not yet centred.

    Attributes:
      image: float32 [H, W, 1].
      moved: float32 [2], (y, x): by how many pixels the centre of mass moved.
      fit: float32 [], 0..1: the scale at which the longer side of the digit is as before.
    """

    image: Array
    moved: Array
    fit: Array


def add_strokes(image: Array, label: Array, draws: Array, share: float) -> WithStrokes:
    """Adds strokes to an image of a 1 or 7, sometimes.

    Two of five 1s get a flag, one a base line, two both. The flag leaves the upper end to the lower
    left, at 30 to 65 degrees to the stem, with 20 to 50 % of the digit's height. The base line is
    nearly level, its middle is the lower end, and it has 35 to 75 % of the height. A 7 is crossed
    at 45 to 65 % of its height by a bar of 30 to 55 % of it. All are as wide as the stem. Digits
    that have such strokes already stay as they are.

    Args:
      image: float32 [H, W, 1]; the digit is bright on 0.
      label: int32 []: the digit.
      draws: float32 [NUM_DRAWS], -1..1, uniform.
      share: probability, 0..1, of new strokes for a 1 or 7 without.
    """
    ink = image[..., 0]
    stem = _Stem.of(ink, _between(0.45, 0.65, draws[2]))
    chosen = _between(0, 1, draws[0]) < share
    kind = _between(0, 5, draws[1])
    one, seven = chosen & (label == 1) & stem.is_one, chosen & (label == 7) & stem.is_seven
    has_flag, has_base = one & ((kind < 2) | (kind >= 3)), one & (kind >= 2)
    flag = stem.turned(_between(30, 65, draws[2]), stem.height * _between(0.2, 0.5, draws[3]))
    base = _level(_between(-5, 5, draws[4]), stem.height * _between(0.35, 0.75, draws[5]))
    bar = _level(_between(-5, 15, draws[4]), stem.height * _between(0.3, 0.55, draws[5]))
    # No digit has both a base line and a bar.
    line, middle = jnp.where(seven, bar, base), jnp.where(seven, stem.middle, stem.bottom)
    flag_ink = _segment(ink.shape, stem.top, stem.top + flag, stem.width)
    line_ink = _segment(ink.shape, middle - line / 2, middle + line / 2, stem.width)
    added = jnp.maximum(has_flag * flag_ink, (has_base | seven) * line_ink)
    result = jnp.maximum(ink, ink.max() * added)
    moved = _center_of_mass(result) - _center_of_mass(ink)
    return WithStrokes(
        result[..., None], moved, jnp.minimum(1, _longer_side(ink) / _longer_side(result))
    )


def _between(low: float, high: float, draw: Array) -> Array:
    """Scales a draw from -1..1 to low..high."""
    return low + (high - low) * (draw + 1) / 2


class _Stem(NamedTuple):
    """The long stroke of a 1 or 7. Points are float32 [2], (y, x), lengths float32 [], in pixels.

    Attributes:
      top: middle of its upper end, half a width below the digit's first row.
      middle: its point at a given part of the height.
      bottom: middle of its lower end, half a width above the digit's last row.
      height: height of the digit.
      width: width of the stroke.
      is_one: bool [], whether the digit is hardly wider than its stem, as a 1 without flag is.
      is_seven: bool [], whether nothing is beside the middle, as in a 7 that is not crossed.
    """

    top: Array
    middle: Array
    bottom: Array
    height: Array
    width: Array
    is_one: Array
    is_seven: Array

    @classmethod
    def of(cls, ink: Array, middle: Array) -> "_Stem":
        """Finds the stem.

        Args:
          ink: float32 [H, W].
          middle: float32 [], part of the height at which the middle lies, 0..1.
        """
        (first, last), (left, right) = _extent(ink, 1), _extent(ink, 0)
        height = last - first + 1
        middle_y, lower_y = first + middle * (height - 1), first + 0.75 * (height - 1)
        _, top_x = _mean_row(ink, first + 1)
        across_middle, middle_x = _mean_row(ink, middle_y)
        across, lower_x = _mean_row(ink, lower_y)
        _, bottom_x = _mean_row(ink, last - 1)
        slope = (bottom_x - lower_x) / jnp.maximum(last - 1 - lower_y, 1)
        width = jnp.clip(across / jnp.hypot(1, slope), 1.5, 5)
        return cls(
            top=jnp.array([first + (width - 1) / 2, top_x]),
            middle=jnp.array([middle_y, middle_x]),
            bottom=jnp.array([last - (width - 1) / 2, bottom_x]),
            height=height,
            width=width,
            is_one=right - left < jnp.abs(top_x - bottom_x) + across + 2,
            is_seven=across_middle < 1.6 * across,
        )

    def turned(self, degrees: Array, length: Array) -> Array:
        """Returns a vector of a length, turned from the stem's way down to the left."""
        y, x = self.bottom - self.top
        angle = jnp.arctan2(x, y) - jnp.radians(degrees)
        return length * jnp.array([jnp.cos(angle), jnp.sin(angle)])


def _mean_row(ink: Array, y: Array) -> tuple[Array, Array]:
    """Returns the ink in full pixels, and its mean x, of the mean of the three rows around y."""
    row = jnp.arange(ink.shape[0], dtype=jnp.float32)
    near = (jnp.abs(row - y) <= 1).astype(jnp.float32)
    mean = (near[:, None] * ink).sum(0) / jnp.maximum(near.sum(), 1)
    return mean.sum() / jnp.maximum(ink.max(), 1e-6), _center(mean)


def _level(degrees: Array, length: Array) -> Array:
    """Returns a vector of a length to the right, and by some degrees upwards."""
    angle = jnp.radians(degrees)
    return length * jnp.array([-jnp.sin(angle), jnp.cos(angle)])


def _segment(shape: tuple[int, ...], start: Array, end: Array, width: Array) -> Array:
    """Draws a segment with round ends: float32 [H, W], 0..1, the covered part of each pixel."""
    y, x = jnp.mgrid[: shape[0], : shape[1]].astype(jnp.float32)
    y, x = y - start[0], x - start[1]
    along_y, along_x = end - start
    squared = jnp.maximum(along_y**2 + along_x**2, 1e-6)
    nearest = jnp.clip((y * along_y + x * along_x) / squared, 0, 1)
    distance = jnp.hypot(y - nearest * along_y, x - nearest * along_x)
    return jnp.clip(width / 2 + 0.5 - distance, 0, 1)


def _extent(ink: Array, axis: int) -> tuple[Array, Array]:
    """Returns the first and the last row (axis 1) or column (axis 0) of the digit: float32 []."""
    has_ink = (ink > _INK * ink.max()).any(axis)
    last = len(has_ink) - 1 - has_ink[::-1].argmax()
    return has_ink.argmax().astype(jnp.float32), last.astype(jnp.float32)


def _longer_side(ink: Array) -> Array:
    first_row, last_row = _extent(ink, 1)
    first_column, last_column = _extent(ink, 0)
    return jnp.maximum(last_row - first_row, last_column - first_column) + 1


def _center_of_mass(ink: Array) -> Array:
    """Returns the centre of mass of an image [H, W]: float32 [2], (y, x)."""
    return jnp.array([_center(ink.sum(1)), _center(ink.sum(0))])


def _center(mass: Array) -> Array:
    """Returns the mean position of masses [N]: float32 []; 0 where there is none."""
    # Not as a product of vectors, which GPUs and TPUs round to fewer digits.
    position = jnp.arange(len(mass), dtype=jnp.float32)
    return (mass * position).sum() / jnp.maximum(mass.sum(), 1e-6)
