"""The training curves: loss and accuracy as a run went."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cnn_jax.plots import figure

_SERIES = (
    ("train", ".-", "the last batches, as trained on"),
    ("train_eval", "o-", "training set, after each epoch"),
    ("test", "*", "test set, at the end"),
)


@figure.styled
def draw(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draws both against the steps.

    Args:
      rows: of `metrics.jsonl`.
      title: above them.
    """
    drawn = figure.new(9, 4.4, title)
    left, right = drawn.subplots(1, 2)
    for split, style, label in _SERIES:
        chosen = [row for row in rows if row["split"] == split]
        steps = [row["step"] for row in chosen]
        size = {".-": 3.0, "o-": 4.0, "*": 12.0}[style]
        left.plot(steps, [r["loss"] for r in chosen], style, markersize=size, label=label)
        right.plot(steps, [100 * r["accuracy"] for r in chosen], style, markersize=size)
    left.set_ylabel("loss: mean cross-entropy (nats)")
    losses = [row["loss"] for row in rows]
    if max(losses) > 5 * min(losses) > 0:  # A range so small would have no mark on such a scale.
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter(NullFormatter())
    right.set_ylabel("accuracy (%)")
    for axes in (left, right):
        axes.set_xlabel("steps (batches trained on)")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn
