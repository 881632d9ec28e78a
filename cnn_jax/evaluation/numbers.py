"""Reads a line of writing: of all ways to divide it into digits, the one that the model prefers."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cnn_jax.preprocessing.photo import Crop


def best_division(
    line: Sequence[Crop], probability: npt.NDArray[np.floating]
) -> tuple[list[int], float]:
    """Finds the parts of a line that are its digits.

    A way to divide a line weighs the product over its parts of their probability and the
    exponential of their negative cost. Sums and maxima over all ways are found by dynamic
    programming over the places where the line may be divided (the forward and the Viterbi
    algorithm).

    Args:
      line: M parts that may be digits.
      probability: [M], 0..1, of the most probable class of each.

    Returns:
      The indices of the parts of the way that weighs most, from left to right, and its share of the
      weight of all ways, 0..1.
    """
    weight = np.maximum(probability, 1e-9) * np.exp([-part.cost for part in line])
    best: dict[int, tuple[float, list[int]]] = {0: (1.0, [])}  # By the place where they end.
    total = {0: 1.0}
    for index in sorted(range(len(line)), key=lambda i: line[i].stop):
        start, stop = line[index].start, line[index].stop
        if start not in best:
            continue
        before, parts = best[start]
        total[stop] = total.get(stop, 0.0) + total[start] * weight[index]
        if before * weight[index] > best.get(stop, (-math.inf,))[0]:
            best[stop] = before * weight[index], [*parts, index]
    end = max(best)
    return best[end][1], best[end][0] / total[end]
