"""What all pictures have in common: how they look, and how they come onto the disk."""

import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn_jax.io.files import translate_errors, write_output

_STYLE: Mapping[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "text.parse_math": False,  # Names of files and classes may hold dollar signs.
}
styled = mpl.rc_context(_STYLE)  # type: ignore[arg-type]  # Decorates what draws a figure.


def new(width: float, height: float, title: str) -> Figure:
    """An empty figure.

    Args:
      width: in units of 100 pixels.
      height: likewise.
      title: one or two lines above everything.
    """
    figure = Figure((width, height), dpi=100, layout="constrained")
    figure.suptitle(title)
    return figure


def show_image(axes: Axes, image_u8: npt.NDArray[np.uint8], title: str = "") -> None:
    """Draws an image pixel by pixel, as the data set has it: zero is black.

    Args:
      axes: where.
      image_u8: uint8 [H, W, C] with 1 or 3 channels.
      title: above it.
    """
    axes.imshow(image_u8.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def short(name: str, letters: int = 14) -> str:
    """A name, cut where it would not fit."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


@styled  # Labels of axes are made only now.
def png(figure: Figure) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A file's or class's name may be written in letters that the font has not: boxes, then.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Writes the picture, whole or not at all, and makes its folder if need be.

    Raises:
      UserError: when it cannot be written.
    """
    with translate_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_output(path, png(figure))


def remove(paths: Iterable[Path]) -> None:
    """Deletes pictures of before, such as those of other images.

    Raises:
      UserError: when one cannot be deleted.
    """
    for path in paths:
        with translate_errors(path):
            path.unlink(missing_ok=True)
