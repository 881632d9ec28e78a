"""Data sets as uint8 arrays. `dataset.py` is the way in; nothing here knows of a model."""

from cnn_jax.data.datasets import describe, load, load_test, needs_tfds
from cnn_jax.data.prefetch import stream
from cnn_jax.data.source import Source, source
from cnn_jax.data.types import Dataset, Info, Part, Split

Examples = Dataset | Source  # Both are read by index, the training examples first.

__all__ = [
    "Dataset",
    "Examples",
    "Info",
    "Part",
    "Source",
    "Split",
    "describe",
    "load",
    "load_test",
    "needs_tfds",
    "source",
    "stream",
]
