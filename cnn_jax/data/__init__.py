"""Data sets as uint8 arrays, in memory or read ahead. Knows neither JAX nor configs."""

from cnn_jax.data.datasets import describe, load, load_test, needs_tfds
from cnn_jax.data.prefetch import prefetch
from cnn_jax.data.source import Source, open_source
from cnn_jax.data.types import Dataset, Examples, Info, Part

# Either is read by index: the training examples first, then the test examples.
RandomAccess = Dataset | Source

__all__ = [
    "Dataset",
    "Examples",
    "Info",
    "Part",
    "RandomAccess",
    "Source",
    "describe",
    "load",
    "load_test",
    "needs_tfds",
    "open_source",
    "prefetch",
]
