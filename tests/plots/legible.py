"""Checks that the texts of a figure can be read: none is cut off, none overlaps another."""

from itertools import combinations
from typing import Any
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_TOLERANCE = 1.0  # Pixels; a text's box has a margin around the letters.


def assert_legible(figure: Figure) -> None:
    """Draws a figure, and checks every text that is drawn.

    Raises:
      AssertionError: when a text is cut off, or overlaps another.
    """
    drawn: list[Text] = []
    draw: Any = Text.draw

    def record_and_draw(text: Text, *args: Any, **kwargs: Any) -> None:
        drawn.append(text)
        draw(text, *args, **kwargs)

    canvas: Any = FigureCanvasAgg(figure)
    with mock.patch.object(Text, "draw", record_and_draw):
        canvas.draw()
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()).padded(-_TOLERANCE))
        for text in drawn
        if text.get_text() and text.get_visible()
    ]
    assert boxes
    width, height = figure.bbox.size
    for content, box in boxes:
        is_inside = 0 <= box.x0 <= box.x1 <= width and 0 <= box.y0 <= box.y1 <= height
        assert is_inside, f"{content!r} is cut off: {box}"
    for (content, box), (other_content, other_box) in combinations(boxes, 2):
        assert not box.overlaps(other_box), f"{content!r} overlaps {other_content!r}"
