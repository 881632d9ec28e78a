"""Tells which strokes belong to one digit, and which digits to one line of writing."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cnn_jax.preprocessing.ink import CONNECTIVITY, Mask, fill_holes

# Sizes are parts of the height of the digits.
# Two strokes belong to one digit if they are at most so far from each other:
_TOUCHING = 0.05  # of one line: they may have been one;
_INSIDE_NEAR = 0.5  # one between the ends of the other, as the right part of an open 4,
_INSIDE = 0.9  # which is so much of its width;
_NEAR = 0.12  # one small, as the bar of a 5, or higher than the other, to its left or right;
_PIECE_NEAR = 0.25  # one above the other, and small, or both halves of a digit:
_MIN_HALVES = 0.5  # width over height of both together.
_MIN_NEAR = 2.0  # Pixels, of digits that are not much larger.
_PIECE = 0.6  # A small stroke is at most so high.
_MIN_HEIGHT = 0.4  # Whatever is lower is no digit: an underline, a dash, a dot, a smudge.
_MAX_PARTS = 150  # What falls into more is the texture of paper.
_MIN_DASH = 3.0  # Width over height of a dash, which is no measure of the digits' height.
_MIN_UNDERLINE = 0.8  # Width of an underline as a part of that of the digit above.
_MIN_INSIDE = 0.25  # Of a ring's height: what is inside is the drawing, not the ring.
_MAX_RING_FILL = 0.4  # Part of what it surrounds that a ring itself covers.
_MIN_ROUND = 0.8  # Width over height. A narrower ring with something inside may be a crossed 0.


@dataclass(frozen=True)
class Group:
    """Strokes of one digit.

    Attributes:
      parts: labels of the connected components, from 1.
      box: rows and columns of their bounding box.
    """

    parts: tuple[int, ...]
    box: tuple[slice, slice]

    @property
    def height(self) -> int:
        return self.box[0].stop - self.box[0].start

    @property
    def width(self) -> int:
        return self.box[1].stop - self.box[1].start


@dataclass(frozen=True)
class Layout:
    """Digits on a picture.

    Attributes:
      labels: int [H, W], the connected components of the ink from 1, and 0 elsewhere.
      lines: lines of writing from top to bottom, each with its digits from left to right.
      is_complete: whether all ink belongs to a digit.
      is_doubtful: whether some ink that does not may have been writing.
    """

    labels: npt.NDArray[np.int32]
    lines: list[list[Group]]
    is_complete: bool
    is_doubtful: bool


def find_layout(mask: Mask) -> Layout:
    """Groups ink into digits and lines.

    Args:
      mask: bool [H, W], where there is ink, in at least one pixel.
    """
    labels, count = ndimage.label(mask, CONNECTIVITY)
    boxes = ndimage.find_objects(labels)
    if count == 1 or count > _MAX_PARTS:
        whole = union([Group((i + 1,), box) for i, box in enumerate(boxes)])
        return Layout(labels, [[whole]], is_complete=True, is_doubtful=count > 1)
    rings, has_narrow_ring = _find_rings(labels, boxes)
    singles = [Group((i + 1,), box) for i, box in enumerate(boxes) if i + 1 not in rings]
    groups = [
        union(members) for members in _connected(singles, lambda a, b: _is_one_digit(labels, a, b))
    ]
    lines = list(_connected(groups, _is_one_line))
    kept = _without_marks(lines)
    is_reduced = sum(map(len, kept)) < len(groups)
    return Layout(
        labels,
        sorted(
            (sorted(line, key=lambda g: g.box[1].start + g.box[1].stop) for line in kept),
            key=lambda line: np.mean([g.box[0].start + g.box[0].stop for g in line]),
        ),
        is_complete=not rings and not is_reduced,
        is_doubtful=has_narrow_ring or is_reduced,
    )


def _find_rings(
    labels: npt.NDArray[np.int32], boxes: Sequence[tuple[slice, slice]]
) -> tuple[set[int], bool]:
    """Finds circles and frames around digits: their labels, and whether one may be a crossed 0."""
    rings, has_narrow = set(), False
    for label, box in enumerate(boxes, 1):
        ring = labels[box] == label
        filled = fill_holes(ring)
        if np.sum(ring) > _MAX_RING_FILL * np.sum(filled):
            continue
        inside = np.flatnonzero(((labels[box] > 0) & filled & ~ring).any(axis=1))
        if len(inside) and np.ptp(inside) + 1 >= _MIN_INSIDE * len(ring):
            rings.add(label)
            has_narrow |= ring.shape[1] < _MIN_ROUND * ring.shape[0]
    return rings, has_narrow


def _is_one_digit(labels: npt.NDArray[np.int32], a: Group, b: Group) -> bool:
    """Returns whether two components are strokes of one digit, or of digits that nearly touch."""
    small, large = sorted((a, b), key=lambda group: group.height)
    if _is_underline(small, large):
        return False
    is_piece = small.height <= _PIECE * large.height
    size = large.height
    if _is_one_line(a, b):
        is_inside = _overlap(a, b, 1) >= _INSIDE
        near = _INSIDE_NEAR if is_inside else _NEAR if is_piece else _TOUCHING
    elif _overlap(a, b, 1) >= 0.5:
        # Two halves of a digit, or two digits, which are high together.
        both = union((a, b))
        is_piece |= both.width >= _MIN_HALVES * both.height
        near = _PIECE_NEAR if is_piece else _NEAR
        size = both.height if is_piece else size
    else:
        near = _NEAR
    at_most = max(near * size, 0 if _is_one_line(a, b) else _MIN_NEAR)
    return distance(labels, a, b, at_most) <= at_most


def _is_underline(a: Group, b: Group) -> bool:
    """Returns whether a stroke is a level line below another one, and nearly as wide."""
    is_below = a.box[0].start >= b.box[0].stop - 0.1 * b.height
    return is_below and _is_dash(a) and a.width >= _MIN_UNDERLINE * b.width


def _is_dash(group: Group) -> bool:
    return group.width >= _MIN_DASH * group.height


def distance(labels: npt.NDArray[np.int32], a: Group, b: Group, at_most: float) -> float:
    """Returns the distance of two groups in pixels, or infinity where it is above a maximum."""
    gaps = (
        max(one.start, other.start) - min(one.stop, other.stop)
        for one, other in zip(a.box, b.box, strict=True)
    )
    if max(gaps) > at_most:
        return math.inf  # Most pairs on a page: nothing need be computed.
    part = labels[union((a, b)).box]
    to_a = ndimage.distance_transform_edt(~np.isin(part, a.parts))
    return float(np.min(to_a[np.isin(part, b.parts)]))


def _is_one_line(a: Group, b: Group) -> bool:
    return _overlap(a, b, 0) >= 0.5


def _overlap(a: Group, b: Group, axis: int) -> float:
    """Returns the part of the smaller one's rows (axis 0) or columns (1) that both have."""
    one, other = a.box[axis], b.box[axis]
    common = min(one.stop, other.stop) - max(one.start, other.start)
    return common / min(one.stop - one.start, other.stop - other.start)


def _connected(
    groups: Sequence[Group], belongs: Callable[[Group, Group], bool]
) -> Iterator[list[Group]]:
    """Yields the groups that belong together, directly or by way of others."""
    rest = list(groups)
    while rest:
        members = [rest.pop(0)]
        for member in members:  # It grows while it is walked.
            found = [group for group in rest if belongs(member, group)]
            rest = [group for group in rest if group not in found]
            members += found
        yield members


def union(groups: Sequence[Group]) -> Group:
    """Returns the strokes of several groups as one."""
    box = tuple(
        slice(min(g.box[i].start for g in groups), max(g.box[i].stop for g in groups))
        for i in (0, 1)
    )
    parts = itertools.chain.from_iterable(group.parts for group in groups)
    return Group(tuple(sorted(parts)), (box[0], box[1]))


def _without_marks(lines: Sequence[list[Group]]) -> list[list[Group]]:
    """Returns the lines without underlines, dashes, dots and smudges."""
    groups = list(itertools.chain.from_iterable(lines))
    digits = [g for g in groups if not _is_dash(g)] or groups
    height = max(g.height for g in digits)
    kept = ([g for g in line if g.height >= _MIN_HEIGHT * height] for line in lines)
    return [line for line in kept if line]
