"""Data sets as uint8 arrays, in memory or prefetched. Imports neither JAX nor configs."""

from cnn_jax.data.datasets import describe, load, load_test, needs_tfds
from cnn_jax.data.files import NAME as FILES
from cnn_jax.data.files import count_shared, display_name
from cnn_jax.data.prefetch import MAX_ELEMENTS_AHEAD, prefetch
from cnn_jax.data.source import Source, open_source
from cnn_jax.data.types import Dataset, Examples, Info, Part

# Both have `read(indices)`, with the training examples first and the test examples after them.
RandomAccess = Dataset | Source

__all__ = [
    "FILES",
    "MAX_ELEMENTS_AHEAD",
    "Dataset",
    "Examples",
    "Info",
    "Part",
    "RandomAccess",
    "Source",
    "count_shared",
    "describe",
    "display_name",
    "load",
    "load_test",
    "needs_tfds",
    "open_source",
    "prefetch",
]
