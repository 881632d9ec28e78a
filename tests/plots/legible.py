"""Whether a picture's words can be read: none is cut off, none lies on another."""

from itertools import combinations
from typing import Any
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_TOLERANCE = 1.0  # Pixels; a text's box has some air around the letters.


def assert_legible(figure: Figure) -> None:
    """Draws the figure, and looks at every text that was really drawn."""
    drawn: list[Text] = []
    draw: Any = Text.draw

    def note(text: Text, *args: Any, **kwargs: Any) -> None:
        drawn.append(text)
        draw(text, *args, **kwargs)

    canvas: Any = FigureCanvasAgg(figure)
    with mock.patch.object(Text, "draw", note):
        canvas.draw()
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()).padded(-_TOLERANCE))
        for text in drawn
        if text.get_text() and text.get_visible()
    ]
    assert boxes
    for words, box in boxes:
        across, up = figure.bbox.size
        inside = 0 <= box.x0 <= box.x1 <= across and 0 <= box.y0 <= box.y1 <= up
        assert inside, f"{words!r} is cut off: {box}"
    for (words, box), (others, other) in combinations(boxes, 2):
        assert not box.overlaps(other), f"{words!r} lies on {others!r}"
