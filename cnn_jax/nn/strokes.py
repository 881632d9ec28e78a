"""Strokes that many people write and MNIST hardly has: flags and base lines of 1, crossed 7."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

NUM_DRAWS = 6
_INK = 0.5  # Share of an image's largest value from which a pixel belongs to its digit.


class WithStrokes(NamedTuple):
    """Digits with added strokes, not yet centred.

    Attributes:
      image: float32 [B, H, W, 1].
      moved: float32 [B, 2], (y, x): by how many pixels the centre of mass moved.
      fit: float32 [B], 0..1: the scale at which the longer side of the digit is as before.
    """

    image: Array
    moved: Array
    fit: Array


def add_strokes(image: Array, label: Array, draws: Array, share: float) -> WithStrokes:
    """Adds strokes to some of the 1s and 7s.

    Two of five 1s get a flag, one a base line, two both. The flag leaves the upper end to the lower
    left, at 30 to 65 degrees to the stem, with 20 to 50 % of the digit's height. The base line is
    nearly level, its middle is the lower end, and it has 35 to 75 % of the height. A 7 is crossed
    at 45 to 65 % of its height by a bar of 30 to 55 % of it. All are as wide as the stem. Digits
    that have such strokes already stay as they are.

    Args:
      image: float32 [B, H, W, 1]; digits are bright on 0.
      label: int32 [B]: k is the digit k.
      draws: float32 [B, NUM_DRAWS], -1..1, uniform.
      share: share of the other 1s and 7s that get strokes, 0..1.
    """
    ink = image[..., 0]
    stem = _Stem.of(ink, label, _between(0.45, 0.65, draws[:, 2]))
    chosen = stem.is_plain & (_between(0, 1, draws[:, 0]) < share)
    one, seven = (chosen[:, None] & (label[:, None] == jnp.array([1, 7]))).T
    kind = _between(0, 5, draws[:, 1])
    has_flag, has_base = (kind < 2) | (kind >= 3), kind >= 2
    flag = stem.turned(_between(30, 65, draws[:, 2]), stem.height * _between(0.2, 0.5, draws[:, 3]))
    base = _level(_between(-5, 5, draws[:, 4]), stem.height * _between(0.35, 0.75, draws[:, 5]) / 2)
    bar = _level(_between(-5, 15, draws[:, 4]), stem.height * _between(0.3, 0.55, draws[:, 5]) / 2)
    radius = stem.width / 2
    flag_ink = _segment(ink, stem.top, stem.top + flag, radius, one & has_flag)
    level = jnp.where(seven[:, None], bar, base)
    middle = jnp.where(seven[:, None], stem.middle, stem.bottom)
    level_ink = _segment(ink, middle - level, middle + level, radius, seven | (one & has_base))
    strength = ink.max((1, 2), keepdims=True)
    result = jnp.maximum(ink, strength * jnp.maximum(flag_ink, level_ink))
    fit = jnp.minimum(1, _longer_side(ink) / _longer_side(result))
    return WithStrokes(result[..., None], _center_of_mass(result) - _center_of_mass(ink), fit)


def _between(low: float, high: float, draw: Array) -> Array:
    """Scales a draw from -1..1 to low..high."""
    return low + (high - low) * (draw + 1) / 2


class _Stem(NamedTuple):
    """The long stroke of a 1 or 7. Points are float32 [B, 2], (y, x).

    Attributes:
      top: middle of its upper end, half a width below the digit's first row.
      middle: its point at a given part of the height.
      bottom: middle of its lower end, half a width above the digit's last row.
      height: float32 [B], height of the digit.
      width: float32 [B], width of the stroke.
      is_plain: bool [B]: a 1 that is hardly more than its stem; a 7 with nothing beside its stem at
        half its height.
    """

    top: Array
    middle: Array
    bottom: Array
    height: Array
    width: Array
    is_plain: Array

    @classmethod
    def of(cls, ink: Array, label: Array, middle: Array) -> "_Stem":
        """Finds the stem.

        Args:
          ink: float32 [B, H, W].
          label: int32 [B].
          middle: float32 [B], part of the height at which the middle lies, 0..1.
        """
        (first, last), (left, right) = _extent(ink, 2), _extent(ink, 1)
        height = last - first + 1
        middle_y, lower_y = first + middle * (height - 1), first + 0.75 * (height - 1)
        _, top_x = _mean_of_rows(ink, first + 1, 1)
        across_middle, middle_x = _mean_of_rows(ink, middle_y, 1)
        across, lower_x = _mean_of_rows(ink, lower_y, 1)
        _, bottom_x = _mean_of_rows(ink, last - 1, 1)
        slope = (bottom_x - lower_x) / jnp.maximum(last - 1 - lower_y, 1)
        width = jnp.clip(across / jnp.hypot(1, slope), 1.5, 5)
        is_plain_one = right - left < jnp.abs(top_x - bottom_x) + across + 2
        is_plain_seven = across_middle < 1.6 * across
        return cls(
            top=jnp.stack([first + (width - 1) / 2, top_x], -1),
            middle=jnp.stack([middle_y, middle_x], -1),
            bottom=jnp.stack([last - (width - 1) / 2, bottom_x], -1),
            height=height,
            width=width,
            is_plain=jnp.where(label == 1, is_plain_one, is_plain_seven),
        )

    def turned(self, degrees: Array, length: Array) -> Array:
        """Returns vectors [B, 2] of a length, turned from the stem's way down to the left."""
        y, x = jnp.moveaxis(self.bottom - self.top, -1, 0)
        angle = jnp.arctan2(x, y) - jnp.radians(degrees)
        return length[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)


def _mean_of_rows(ink: Array, y: Array, distance: float) -> tuple[Array, Array]:
    """Returns the ink of a row, in full pixels, and its mean x, both as means of the rows near y.

    Args:
      ink: float32 [B, H, W].
      y: float32 [B], the middle row.
      distance: rows at most this far from it are near.
    """
    row = jnp.arange(ink.shape[1], dtype=jnp.float32)
    near = (jnp.abs(row - y[:, None]) <= distance).astype(jnp.float32)
    column = (near[:, :, None] * ink).sum(1) / near.sum(1, keepdims=True)
    mass = jnp.maximum(column.sum(1), 1e-6)
    mean_x = _moment(column) / mass
    return mass / jnp.maximum(ink.max((1, 2)), 1e-6), mean_x


def _level(degrees: Array, length: Array) -> Array:
    """Returns vectors [B, 2] to the right, and by some degrees upwards."""
    angle = jnp.radians(degrees)
    return length[:, None] * jnp.stack([-jnp.sin(angle), jnp.cos(angle)], -1)


def _segment(ink: Array, start: Array, end: Array, radius: Array, drawn: Array) -> Array:
    """Draws segments with round ends: float32 [B, H, W], 0..1, the covered part of each pixel."""
    y = jnp.arange(ink.shape[1], dtype=jnp.float32)[:, None] - start[:, 0, None, None]
    x = jnp.arange(ink.shape[2], dtype=jnp.float32) - start[:, 1, None, None]
    along_y, along_x = jnp.moveaxis(end - start, -1, 0)[..., None, None]
    squared = jnp.maximum(along_y**2 + along_x**2, 1e-6)
    nearest = jnp.clip((y * along_y + x * along_x) / squared, 0, 1)
    distance = jnp.hypot(y - nearest * along_y, x - nearest * along_x)
    covered = jnp.clip(radius[:, None, None] + 0.5 - distance, 0, 1)
    return jnp.where(drawn[:, None, None], covered, 0)


def _extent(ink: Array, axis: int) -> tuple[Array, Array]:
    """Returns the first and the last row (axis 2) or column (axis 1) of digits: float32 [B]."""
    has_ink = (ink > _INK * ink.max((1, 2), keepdims=True)).any(axis)
    size = has_ink.shape[1]
    first, after = has_ink.argmax(1), has_ink[:, ::-1].argmax(1)
    return first.astype(jnp.float32), (size - 1 - after).astype(jnp.float32)


def _longer_side(ink: Array) -> Array:
    sides = [last - first + 1 for first, last in (_extent(ink, 1), _extent(ink, 2))]
    return jnp.maximum(*sides)


def _center_of_mass(ink: Array) -> Array:
    """Returns the centres of mass of images [B, H, W]: float32 [B, 2], (y, x)."""
    rows, columns = ink.sum(2), ink.sum(1)
    moments = jnp.stack([_moment(rows), _moment(columns)], -1)
    return moments / jnp.maximum(rows.sum(1, keepdims=True), 1e-6)


def _moment(mass: Array) -> Array:
    """Returns the sum of each mass times its position: float32 [B, N] -> [B]."""
    # As a product of matrices it would be rounded to fewer digits on GPUs and TPUs.
    return (mass * jnp.arange(mass.shape[1], dtype=jnp.float32)).sum(1)
