"""Many small maps in one pair of axes; one pair for each would take seconds to draw."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage

from cnn_jax.plots import figure

MOST = 16  # Tiles in a row; more would be too small.
TEXT: Mapping[str, Any] = {"fontsize": 8}  # Of labels.
WIDTH = 0.88  # Of a tile, in cells.
DIVERGING = "RdBu_r"  # Blue below zero, white at zero, red above it.

_GROUND = "0.88"  # Grey, so that a tile that is white stands out.
_LETTERS = 11.5  # Of a title in 100 pixels.


def new(width: float, height: float, title: str, explanation: str) -> Figure:
    """An empty figure with a title, and below it in words what there is to see.

    Args:
      width: in units of 100 pixels.
      height: likewise, without titles.
      title: one line.
      explanation: one sentence or two.
    """
    lines = textwrap.wrap(title, int(_LETTERS * width))
    lines += textwrap.wrap(explanation, int(_LETTERS * width))
    drawn = figure.new(width, height + 0.2 * len(lines), "\n".join(lines))
    drawn.set_layout_engine("compressed")  # Which leaves no gap beside axes of a fixed shape.
    return drawn


def limit(arrays: Iterable[npt.NDArray[Any]], percentile: float = 100) -> float:
    """Where a colour scale ends: below it lie so many percent of the magnitudes of all arrays."""
    magnitudes = np.concatenate([np.abs(array).ravel() for array in arrays])
    return float(np.percentile(magnitudes, percentile)) or float(magnitudes.max()) or 1.0


def symmetric(arrays: Iterable[npt.NDArray[Any]], percentile: float = 100) -> Normalize:
    """A colour scale with zero in its middle; arguments as in `limit`."""
    end = limit(arrays, percentile)
    return Normalize(-end, end)


def show(
    axes: Axes, rows: Iterable[Iterable[npt.NDArray[Any]]], pitch: float = 1, **how: Any
) -> AxesImage:
    """Draws rows of maps, of as many pixels as they like, in cells of one size.

    The tile of row r and column c has its middle at x = c, y = pitch * r, and is `WIDTH` wide.

    Args:
      axes: where.
      rows: of [h, w], [h, w, 3] or [h, w, 4] each.
      pitch: from one row to the next, in heights of a cell.
      how: goes to `imshow`.

    Returns:
      One of the images drawn, for a colour bar.
    """
    half = WIDTH / 2
    columns = 0
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            middle = pitch * y
            extent = (x - half, x + half, middle + half, middle - half)
            image = axes.imshow(tile, extent=extent, interpolation="nearest", **how)
            columns = max(columns, x + 1)
    height, width = tile.shape[:2]
    axes.set_aspect(height / width)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(middle + 0.5, 0.5 - pitch)
    axes.set_facecolor(_GROUND)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return image


def label(
    axes: Axes, rows: tuple[str, Sequence[str]], columns: tuple[str, Sequence[str]] = ("", ())
) -> None:
    """Says what the rows, on the left, and the columns, above, are, and names each of them."""
    axes.set_ylabel(rows[0], **TEXT)
    axes.set_yticks(range(len(rows[1])), rows[1], **TEXT)
    axes.set_xlabel(columns[0], **TEXT)
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(columns[1])), columns[1], **TEXT)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)


def explain_colours(
    drawn: FigureBase, axes: Sequence[Axes], image: AxesImage, text: str, **how: Any
) -> None:
    """Puts a colour bar beside the axes; `how` goes to `colorbar`."""
    bar = drawn.colorbar(image, ax=axes, shrink=0.9, aspect=25, **how)
    bar.set_label(text, **TEXT)
    bar.ax.tick_params(labelsize=TEXT["fontsize"])


def numbers(count: int) -> list[str]:
    """1, 2, ... as labels."""
    return [str(number) for number in range(1, count + 1)]


def count(total: int, noun: str, most: int = MOST) -> str:
    """`8 filters`, `1 filter` or, where not all are shown, `first 16 of 64 filters`."""
    plural = "es" if noun.endswith("s") else "s"
    nouns = noun if total == 1 else noun + plural
    return f"{total} {nouns}" if total <= most else f"first {most} of {total} {nouns}"
