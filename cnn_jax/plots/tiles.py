"""Draws many small maps in one pair of axes. Axes for each map would take seconds to draw."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage

from cnn_jax.plots import figure, names
from cnn_jax.wording import pluralize

MAX_TILES = 16  # Tiles in a row or column. More would be too small.
TEXT: Mapping[str, Any] = {"fontsize": 8}  # Style of labels.
WIDTH = 0.88  # Of a tile, in widths of a cell.
DIVERGING = "RdBu_r"  # Blue below zero, white at zero, red above it.

_BACKGROUND = "0.88"  # Grey, so that a white tile stands out.


def new_figure(width: float, height: float, title: str, explanation: str) -> Figure:
    """Returns an empty figure with a title and an explanation below it.

    Args:
      width: in units of 100 pixels.
      height: in units of 100 pixels, without title and explanation.
      title: one line; wrapped where it is too long.
      explanation: one or two sentences; wrapped likewise.
    """
    lines = [
        line for text in (title, explanation) for line in names.wrap(text, figure.LETTERS * width)
    ]
    fig = figure.new_figure(width, height + 0.2 * len(lines), "\n".join(lines))
    fig.set_layout_engine("compressed")  # Leaves no gaps beside axes with a fixed aspect ratio.
    return fig


def color_limit(arrays: Iterable[npt.NDArray[Any]], percentile: float = 100) -> float:
    """Returns the end of a colour scale: a percentile of the magnitudes of all arrays; positive."""
    magnitudes = np.concatenate([np.abs(array).ravel() for array in arrays])
    return float(np.percentile(magnitudes, percentile)) or float(magnitudes.max()) or 1.0


def symmetric_norm(arrays: Iterable[npt.NDArray[Any]], percentile: float = 100) -> Normalize:
    """Returns a colour scale from -limit to limit, where limit is their `color_limit`."""
    limit = color_limit(arrays, percentile)
    return Normalize(-limit, limit)


def draw_rows(
    axes: Axes, rows: Iterable[Iterable[npt.NDArray[Any]]], pitch: float = 1, **imshow_options: Any
) -> AxesImage:
    """Draws rows of maps in cells of equal size, whatever the number of their pixels.

    The tile in row r and column c has its centre at x = c, y = pitch * r, and is `WIDTH` wide.

    Args:
      axes: axes to draw on.
      rows: rows of [h, w], [h, w, 3] or [h, w, 4] arrays; at least one row and tile.
      pitch: from one row to the next, in heights of a cell.
      **imshow_options: passed on to `Axes.imshow`.

    Returns:
      One of the drawn images, for a colour bar.
    """
    half = WIDTH / 2
    columns = 0
    for row_index, row in enumerate(rows):
        for x, tile in enumerate(row):
            y = pitch * row_index
            extent = (x - half, x + half, y + half, y - half)
            image = axes.imshow(tile, extent=extent, interpolation="nearest", **imshow_options)
            columns = max(columns, x + 1)
    height, width = tile.shape[:2]
    axes.set_aspect(height / width)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(y + 0.5, 0.5 - pitch)
    axes.set_facecolor(_BACKGROUND)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return image


def set_labels(
    axes: Axes, rows: tuple[str, Sequence[str]], columns: tuple[str, Sequence[str]] = ("", ())
) -> None:
    """Labels the rows on the left and the columns above.

    Args:
      axes: axes that `draw_rows` has drawn on.
      rows: label of the row axis, and the label of each row.
      columns: label of the column axis, and the label of each column.
    """
    axes.set_ylabel(rows[0], **TEXT)
    axes.set_yticks(range(len(rows[1])), rows[1], **TEXT)
    axes.set_xlabel(columns[0], **TEXT)
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(columns[1])), columns[1], **TEXT)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)


def add_colorbar(
    fig: FigureBase, axes: Sequence[Axes], image: AxesImage, text: str, **colorbar_options: Any
) -> None:
    """Adds a colour bar beside the axes.

    Args:
      fig: figure that holds the axes.
      axes: axes that the colour bar belongs to.
      image: image whose colours it explains.
      text: label of the colour bar.
      **colorbar_options: passed on to `Figure.colorbar`.
    """
    bar = fig.colorbar(image, ax=axes, shrink=0.9, aspect=25, **colorbar_options)
    bar.set_label(text, **TEXT)
    bar.ax.tick_params(labelsize=TEXT["fontsize"])


def number_labels(count: int) -> list[str]:
    """Returns the labels 1, 2, ..., count."""
    return [str(number) for number in range(1, count + 1)]


def describe_count(total: int, noun: str, max_shown: int = MAX_TILES) -> str:
    """Returns `8 filters`, `1 filter` or, where not all are shown, `first 16 of 64 filters`."""
    first = f"first {max_shown} of " if total > max_shown else ""
    return first + pluralize(total, noun)
