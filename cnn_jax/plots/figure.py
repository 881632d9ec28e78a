"""Parts common to all figures: style, images, and writing to disk."""

import io
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnn_jax.io.files import translate_write_errors, write_output
from cnn_jax.plots import names

_STYLE: Mapping[str, Any] = {
    "font.family": names.FAMILY,
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "text.parse_math": False,  # Names of files and classes may contain dollar signs.
}
# Letters of a title per 100 pixels: 11 points are 15.3 pixels, and a letter is 0.6 of that wide.
# Less a margin of 5 %, since letters are drawn at whole pixels.
LETTERS = 10.4
styled = mpl.rc_context(_STYLE)  # type: ignore[arg-type]  # A decorator for functions that draw.


def new_figure(width: float, height: float, title: str) -> Figure:
    """Returns an empty figure.

    Args:
      width: in units of 100 pixels.
      height: in units of 100 pixels.
      title: one or two lines above everything else; wrapped where they are too long.
    """
    figure = Figure((width, height), dpi=100, layout="constrained")
    lines = itertools.chain(*(names.wrap(line, LETTERS * width) for line in title.split("\n")))
    figure.suptitle("\n".join(lines))
    return figure


def show_image(axes: Axes, image_u8: npt.NDArray[np.uint8], title: str = "") -> None:
    """Draws an image pixel by pixel, without axes. In grey images 0 is black and 255 white.

    Args:
      axes: axes to draw on.
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      title: text above the image.
    """
    axes.imshow(image_u8.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


@styled  # Matplotlib creates tick labels only here.
def to_png(figure: Figure) -> bytes:
    """Renders a figure as a PNG file."""
    names.choose_fonts(figure)
    buffer = io.BytesIO()
    with names.quiet():
        # Not `savefig`, which draws everything twice for the sake of the layout.
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG file, atomically. Creates the file's folder where needed.

    Raises:
      UserError: when the file or folder cannot be written.
    """
    with translate_write_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_output(path, to_png(figure))


def remove(paths: Iterable[Path]) -> None:
    """Deletes the files of outdated figures, such as those of other images.

    Raises:
      UserError: when a file cannot be deleted.
    """
    for path in paths:
        with translate_write_errors(path):
            path.unlink(missing_ok=True)
