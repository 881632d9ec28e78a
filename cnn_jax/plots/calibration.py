"""The reliability diagram: whether a network is right as often as it says."""

import numpy as np
from matplotlib.figure import Figure

from cnn_jax.evaluation.report import Scores
from cnn_jax.plots import figure


@figure.styled
def draw(scores: Scores, about: str) -> Figure:
    """Draws accuracy against confidence, and how many examples stand behind each bar.

    Args:
      scores: of N examples.
      about: says which network it is.
    """
    bins = scores.bins
    error = f"expected calibration error {100 * scores.calibration_error():.2f} %"
    count = f"{len(scores.label):,} test pictures"
    title = f"Is it right as often as it says?\n{about}, {count}, {error}"
    edges = np.linspace(0, 100, len(bins.count) + 1)
    width = edges[1]
    drawn = figure.new(6, 6.5, title)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(
        edges[:-1], 100 * bins.accuracy, width, align="edge", edgecolor="w", label="the network"
    )
    above.plot([0, 100], [0, 100], "k--", linewidth=1, label="as often as it says")
    above.set_ylabel("share that is right (%)")
    above.set_ylim(0, 100)
    above.legend(loc="upper left")
    below.bar(edges[:-1], bins.count, width, align="edge", color="0.6", edgecolor="w")
    below.set_yscale("symlog", linthresh=1)
    below.yaxis.set_major_formatter("{x:,.0f}")
    below.set_ylim(bottom=0)
    below.set_ylabel("pictures")
    below.set_xlabel("probability that the network gives its prediction (%)")
    below.set_xlim(0, 100)
    return drawn
