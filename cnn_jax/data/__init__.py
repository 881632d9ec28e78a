"""Data sets as uint8 arrays. `dataset.py` is the way in; nothing here knows of a model."""

from cnn_jax.data.dataset import Dataset, Info, Part, describe, load, needs_tfds
from cnn_jax.data.split import Split

__all__ = ["Dataset", "Info", "Part", "Split", "describe", "load", "needs_tfds"]
