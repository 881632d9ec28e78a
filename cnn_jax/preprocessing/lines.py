"""Reads the ink of a picture as lines of digits, or as what may be digits.

Where two digits touch, or the strokes of one do not, several ways to divide a line are candidates.
Which one is right, only a model can tell (`evaluation/numbers.py`).
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from cnn_jax.preprocessing.cuts import MIN_WIDTH, Cut, find_cuts
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.ink import Ink
from cnn_jax.preprocessing.layout import Group, Layout, distance, find_layout, union
from cnn_jax.preprocessing.segment import (
    View,
    crop_to_region,
    search_again,
    search_picture,
    segment_part,
)

_CONNECTED = 0.3  # Strength of ink that connects two strokes.
_MIN_HEIGHT = 60  # Pixels of a digit: strokes that nearly touch are apart.
_MAX_SIDE = 1200  # Pixels of a view that is searched for this.
_MAYBE_NEAR = 0.2  # Of the height: digits so near to each other may be one.
_MAX_WIDTH = 1.4  # Width over height of a digit.
# How unlikely a candidate is by its shape, in nats: chosen on numbers composed of MNIST's digits,
# and on single digits of other people, so that few of the latter are cut.
_COST_OF_CUT = 1.25  # On either side,
_COST_OF_GAP = 0.5  # of two parts that do not touch, and
_COST_OF_WIDTH = 4.0  # per height by which it is wider than
_USUAL_WIDTH = 0.9  # so many heights.


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Ink that may be a digit.

    Attributes:
      start: index of the first piece of the line that belongs to it, and
      stop: index after the last one.
      ink: the ink.
      box: its left, upper, right and lower end on the picture, in pixels.
      cost: how unlikely its shape is.
    """

    start: int
    stop: int
    ink: Ink
    box: tuple[float, float, float, float]
    cost: float = 0.0


def find_lines(picture: Image.Image) -> tuple[list[list[Candidate]], bool]:
    """Finds the lines of writing on an RGB picture.

    Args:
      picture: the picture.

    Returns:
      The candidates of each line, from top to bottom, and whether there may be no writing. A
      sequence of candidates that starts at 0, continues where the one before stops, and ends where
      the last one does, is a way to read a line.

    Raises:
      PhotoError: when the picture shows no ink.
    """
    rough = search_picture(picture)
    if rough.ink.is_doubtful:  # The texture of paper falls into any number of parts.
        fine = search_again(rough)
        whole = Candidate(0, 1, fine.ink, fine.box_on_picture())
        return [[whole]], True
    view, layout = _lay_out(rough)
    if layout.is_complete and sum(map(len, layout.lines)) == 1:
        fine = search_again(rough)
        return [list(_cut(fine, 0, 0.0))], fine.ink.is_doubtful or layout.is_doubtful
    nearest = _nearest_label(layout.labels)
    is_doubtful = layout.is_doubtful
    lines = []
    for groups in layout.lines:
        candidates, is_whole = _divide(view, layout, nearest, groups)
        is_doubtful |= not is_whole
        if candidates:
            lines.append(candidates)
    if not lines:
        raise PhotoError("shows nothing: its ink is lost in a closer view")
    return lines, is_doubtful or any(c.ink.is_doubtful for line in lines for c in line)


def _lay_out(rough: View) -> tuple[View, Layout]:
    """Returns a view in which digits are large enough to tell them apart, and their layout."""
    layout = find_layout(rough.ink.strength > _CONNECTED)
    groups = list(itertools.chain.from_iterable(layout.lines))
    height = max(group.height for group in groups)
    if (layout.is_complete and len(groups) == 1) or height >= _MIN_HEIGHT or rough.scale <= 1:
        return rough, layout
    side = min(_MAX_SIDE, round(max(rough.ink.strength.shape) * _MIN_HEIGHT / height))
    view = segment_part(rough.picture, rough.origin, 1.5 * height * rough.scale, side)
    return view, find_layout(view.ink.strength > _CONNECTED)


def _nearest_label(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    nearest = ndimage.distance_transform_edt(
        labels == 0, return_distances=False, return_indices=True
    )
    return np.asarray(labels[tuple(nearest)])


def _divide(
    view: View, layout: Layout, nearest: npt.NDArray[np.int32], groups: Sequence[Group]
) -> tuple[list[Candidate], bool]:
    """Divides a line into candidates.

    Returns:
      The candidates, and whether the second search found every group.
    """
    height = max(group.height for group in groups) * view.scale
    candidates: list[Candidate] = []
    starts = [0]  # Index of the first piece of each group.
    for group in groups:
        if fine := _search_group(view, nearest, group):
            candidates += _cut(fine, starts[-1], height)
        starts.append(max((c.stop for c in candidates), default=0))
    for index, (a, b) in enumerate(itertools.pairwise(groups)):
        both = union((a, b))
        if starts[index] == starts[index + 2]:
            continue  # Neither was found again.
        if _may_be_one(layout, a, b) and (fine := _search_group(view, nearest, both)):
            start, stop = starts[index], starts[index + 2]
            cost = _COST_OF_GAP + _cost_of_width(both.width / both.height)
            candidates.append(Candidate(start, stop, fine.ink, fine.box_on_picture(), cost))
    return candidates, all(start < stop for start, stop in itertools.pairwise(starts))


def _may_be_one(layout: Layout, a: Group, b: Group) -> bool:
    """Returns whether two neighbours in a line may be strokes of one digit."""
    both = union((a, b))
    near = _MAYBE_NEAR * both.height
    is_narrow = both.width <= _MAX_WIDTH * both.height
    return is_narrow and distance(layout.labels, a, b, at_most=near) <= near


def _search_group(view: View, nearest: npt.NDArray[np.int32], group: Group) -> View | None:
    """Finds the ink of a group again, without that of its neighbours; None if there is none."""
    longest = max(group.height, group.width)
    margin = longest // 2
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in group.box)
    region = np.isin(nearest[rows, columns], group.parts)
    left, upper = view.scale * columns.start, view.scale * rows.start
    right, lower = left + view.scale * region.shape[1], upper + view.scale * region.shape[0]
    box = round(left), round(upper), round(right), round(lower)
    part, (x, y) = crop_to_region(view.picture.crop(box), region)
    origin = view.origin[0] + box[0] + x, view.origin[1] + box[1] + y
    try:
        return segment_part(part, origin, longest * view.scale)
    except PhotoError:
        return None


def _cut(view: View, position: int, height: float) -> Iterator[Candidate]:
    """Yields ink as one candidate, and if it is wide, what is between any two cuts through it.

    Args:
      view: the ink.
      position: index of its first piece in the line.
      height: of the digits of the line, in pixels of the picture.
    """
    left, upper, right, lower = view.ink.box
    high = max(lower - upper, height / view.scale)
    strength = view.ink.strength[upper:lower, left:right]
    inner = find_cuts(strength, high)
    if not inner:
        cost = _cost_of_width((right - left) / high)
        yield Candidate(position, position + 1, view.ink, view.box_on_picture(), cost)
        return
    rows, columns = np.indices(strength.shape)
    cuts = [Cut(-math.inf, 0.0), *inner, Cut(math.inf, 0.0)]
    for a, b in itertools.combinations(range(len(cuts)), 2):
        is_right_of_a, is_left_of_b = (
            columns - cut.slope * (rows - strength.shape[0] / 2) >= cut.column
            for cut in (cuts[a], cuts[b])
        )
        piece = np.zeros_like(view.ink.strength)
        piece[upper:lower, left:right] = strength * (is_right_of_a & ~is_left_of_b)
        if np.max(piece) < 0.5:
            continue
        ink = dataclasses.replace(view.ink, strength=piece / np.max(piece))
        box = dataclasses.replace(view, ink=ink).box_on_picture()
        width = (ink.box[2] - ink.box[0]) / high
        if (a > 0 or b < len(cuts) - 1) and not MIN_WIDTH <= width <= _MAX_WIDTH:
            continue
        num_cuts = (a > 0) + (b < len(cuts) - 1)
        cost = _COST_OF_CUT * num_cuts + _cost_of_width(width)
        yield Candidate(position + a, position + b, ink, box, cost)


def _cost_of_width(width: float) -> float:
    """Returns the cost of a width, as a part of the height."""
    return _COST_OF_WIDTH * max(0.0, width - _USUAL_WIDTH)
