"""The images that a trained model accepts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.evaluation.loading import load
from cnn_jax.reporting.result import Result


def test_other_arrays_than_images_are_refused(straight_run: tuple[Path, Result]) -> None:
    trained = load(straight_run[0])
    images: Any = data.load("digits").test.image[:2]
    assert trained.probabilities(images).shape == (2, 10)
    for floats in (images / 255, images.astype(np.float32), images.astype(np.int32)):
        with pytest.raises(
            TypeError, match=f"^images of dtype {floats.dtype} are .* uint8, 0..255"
        ):
            trained.probabilities(floats)
    for array in (images[0], images[..., 0], images[:, ::2], images.reshape(2, -1)):
        with pytest.raises(
            ValueError, match=r"are invalid: the shape must be \(N, 28, 28, 1\)\. F"
        ):
            trained.probabilities(array)
