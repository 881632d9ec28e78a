"""Loads the parts of a data set from its splits, each of which is decoded once and cached."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from cnn_jax.data import cache, prepared
from cnn_jax.data.types import Dataset, Examples, Info, Part
from cnn_jax.errors import UserError
from cnn_jax.io.folders import cache_folder
from cnn_jax.wording import pluralize


def load_parts(
    info: Info, identity: str, fingerprint: str, read: Callable[[str], Examples]
) -> Dataset:
    """Loads the splits of a data set, each from the cache if possible, and cuts the parts out.

    Args:
      info: parts that make up the training examples and the test examples.
      identity: name or folder of the data set, from which the names of its cache files derive.
      fingerprint: text that changes whenever the data may have changed.
      read: function that decodes all examples of a split.

    Raises:
      UserError: if a split has fewer examples than the data set declares.
    """
    splits: dict[str, Examples] = {}
    for split in sorted({part.split for part in info.train + info.test}):
        path = cache_path(identity, split)
        examples = cache.load(path, fingerprint) if path else None
        if examples is None:
            examples = read(split)
            if path:
                cache.save(path, fingerprint, examples)
        splits[split] = examples
    for part in info.train + info.test:
        if (num_examples := len(splits[part.split].label)) < part.stop:
            raise UserError(
                f"cannot read {identity} (its split {part.split} has "
                f"{pluralize(num_examples, 'example')}): it must have {part.stop:,}. "
                f"{prepared.advice(Path(identity))}"
            )
    return Dataset(_concatenate(splits, info.train), _concatenate(splits, info.test))


def cache_path(identity: str, split: str) -> Path | None:
    """Returns the cache file of a split; None where the user has no cache folder."""
    digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16]
    folder = cache_folder()
    return folder and folder / "data" / f"{digest}-{split}"


def _concatenate(splits: Mapping[str, Examples], parts: Sequence[Part]) -> Examples:
    """Returns the examples of some parts; a view if there is only one part."""
    images = [splits[part.split].image[part.start : part.stop] for part in parts]
    labels = [splits[part.split].label[part.start : part.stop] for part in parts]
    if len(parts) == 1:
        return Examples(images[0], labels[0])
    return Examples(np.concatenate(images), np.concatenate(labels))
