"""Learning curves: loss and accuracy over the steps of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cnn_jax.plots import figure

_SERIES = (  # Split in `metrics.jsonl`, line style, marker size, label.
    ("train", ".-", 3.0, "training batches since the last point"),
    ("train_eval", "o-", 4.0, "training set, after an epoch"),
    ("test", "*", 12.0, "test set, at the end"),
)


@figure.styled
def draw(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draws loss and accuracy against the step, side by side.

    Args:
      rows: rows of `metrics.jsonl` with `split`, `step`, `loss` and `accuracy`; at least one.
      title: title of the figure.
    """
    fig = figure.new_figure(9, 4.4, title)
    left, right = fig.subplots(1, 2)
    for split, style, size, label in _SERIES:
        points = [row for row in rows if row["split"] == split]
        steps = [row["step"] for row in points]
        # The star of the test set is below the point of the last epoch, which it would hide.
        options: dict[str, Any] = {"markersize": size, "zorder": 1.9 if split == "test" else 2}
        left.plot(steps, [r["loss"] for r in points], style, label=label, **options)
        right.plot(steps, [100 * r["accuracy"] for r in points], style, **options)
    left.set_ylabel("loss: mean cross-entropy (nats)")
    losses = [row["loss"] for row in rows]
    if max(losses) > 5 * min(losses) > 0:  # On a smaller range a log scale would have no tick.
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter(NullFormatter())
    right.set_ylabel("accuracy (%)")
    for axes in (left, right):
        axes.set_xlabel("step (batches trained on)")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    fig.legend(loc="outside lower center", ncols=3)
    return fig
