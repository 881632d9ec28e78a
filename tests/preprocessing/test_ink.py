"""Measures of ink on a picture."""

import numpy as np
import pytest
from scipy import ndimage

from cnn_jax.preprocessing import ink


@pytest.mark.parametrize("seed", range(20))
def test_masks_are_filled_and_grown_as_scipy_does_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 30, 2)) < rng.uniform(0.2, 0.8)
    np.testing.assert_array_equal(ink.fill_holes(mask), ndimage.binary_fill_holes(mask))
    grown = ndimage.binary_dilation(mask, ink.CONNECTIVITY, iterations=2)
    np.testing.assert_array_equal(ink.dilate(mask, 2), grown)


def test_the_box_contains_every_positive_pixel_and_no_more() -> None:
    strength = np.zeros((7, 9), np.float32)
    strength[2, 3] = strength[5, 8] = 0.1
    assert ink.bounding_box(strength) == (3, 2, 9, 6)  # Left, upper, right, lower.
