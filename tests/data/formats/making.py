"""Makes small data sets of files, and loads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.data import Dataset, Examples
from cnn_jax.errors import UserError


def examples(count: int, *, classes: int = 3, shape: tuple[int, ...] = (4, 4, 1)) -> Examples:
    """Returns random images; the label of each is its row modulo the number of classes."""
    generator = np.random.default_rng(count)
    image = generator.integers(0, 256, (count, *shape), np.uint8)
    return Examples(image, (np.arange(count) % classes).astype(np.int32))


def load(path: Path, **settings: Any) -> Dataset:
    """Loads a data set of files."""
    return data.load("files", path=str(path), **settings)


def error_of(path: Path, **settings: Any) -> str:
    """Returns the one line with which a data set of files is refused."""
    with pytest.raises(UserError) as error:
        load(path, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def check_one_line(path: Path) -> None:
    """Asserts that a file, perhaps a damaged one, loads or is refused with one line."""
    try:
        load(path)
    except UserError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


def check(loaded: Examples, expected: Examples) -> None:
    """Asserts that examples are equal, in their order and dtypes."""
    assert loaded.image.dtype == np.uint8
    assert loaded.label.dtype == np.int32
    np.testing.assert_array_equal(loaded.image, expected.image)
    np.testing.assert_array_equal(loaded.label, expected.label)
