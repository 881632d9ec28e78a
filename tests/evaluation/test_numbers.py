"""The division of a line into digits that the model prefers."""

import math

import numpy as np
import pytest

from cnn_jax.evaluation.numbers import best_division
from cnn_jax.preprocessing.photo import Crop

IMAGE = np.zeros((28, 28, 1), np.uint8)


def part(start: int, stop: int, cost: float = 0.0) -> Crop:
    return Crop(IMAGE, (0, 0, 1, 1), start, stop, cost)


def test_only_division_has_the_share_of_all() -> None:
    line = [part(0, 1), part(1, 2), part(2, 3)]
    assert best_division(line, np.array([0.9, 0.5, 0.1])) == ([0, 1, 2], 1.0)


def test_share_is_the_weight_among_all_divisions() -> None:
    # Three ways: the whole; the two halves; and the halves, of which the second is cut again.
    line = [part(0, 3), part(0, 1, 0.5), part(1, 3, 0.5), part(1, 2, 1.0), part(2, 3, 1.0)]
    probability = np.array([0.6, 0.9, 0.8, 0.7, 0.5])
    weights = [
        0.6,
        0.9 * 0.8 * math.exp(-1.0),
        0.9 * 0.7 * 0.5 * math.exp(-2.5),
    ]
    chosen, share = best_division(line, probability)
    assert chosen == [0]
    assert share == pytest.approx(weights[0] / sum(weights))
    chosen, share = best_division(line, np.array([0.1, 0.9, 0.8, 0.7, 0.5]))
    assert chosen == [1, 2]
    assert share == pytest.approx(weights[1] / (0.1 + weights[1] + weights[2]))


def test_parts_that_no_division_reaches_do_not_count() -> None:
    line = [part(0, 2), part(1, 2)]
    assert best_division(line, np.array([0.5, 1.0])) == ([0], 1.0)
