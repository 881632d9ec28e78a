"""Loads a data set by name: prepares it if necessary, decodes it once, and caches the arrays."""

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.data import array_record, digits, files, mnist, originals, prepared
from cnn_jax.data.file_set import Settings
from cnn_jax.data.parts import cache_path, load_parts
from cnn_jax.data.splits import parse_split
from cnn_jax.data.types import Dataset, Examples, Info
from cnn_jax.errors import UserError
from cnn_jax.io.folders import local_folder


def describe(
    name: str,
    *,
    data_dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    show_progress: bool = False,
    **others: Any,
) -> Info:
    """Returns the shapes and sizes of a data set, without a download and without reading images.

    Args:
      name: name of the data set, as for `load`.
      data_dir: TFDS's data folder; empty: TFDS's default.
      train_split: training examples, in TFDS's syntax, such as `train[:50000]`.
      test_split: test examples, in the same syntax.
      show_progress: whether hashing people's own files draws a progress bar on standard error.
      others: other fields of `config.dataset`; a data set of files needs its settings.

    Raises:
      UserError: if the data set is neither known nor prepared, or a split is invalid.
    """
    lengths: Mapping[str, Sequence[int]]
    if name == files.NAME:
        return _describe_files(Settings.of(others), train_split, test_split, show_progress)
    if name == "digits":
        shape, class_names, lengths = digits.IMAGE_SHAPE, digits.CLASS_NAMES, digits.SHARD_LENGTHS
    elif name in originals.ORIGINALS:
        shape, lengths = originals.IMAGE_SHAPE, originals.SHARD_LENGTHS
        class_names = originals.ORIGINALS[name].class_names
        # TFDS can prepare a data set with fewer examples (max_examples_per_split).
        if folder := prepared.find(_data_path(data_dir), name):
            lengths = prepared.shard_lengths(folder)
    else:
        folder = _find(name, _data_path(data_dir))
        shape, class_names = array_record.describe(folder)
        lengths = prepared.shard_lengths(folder)
    return Info(
        shape,
        class_names,
        parse_split("dataset.train_split", train_split, lengths),
        parse_split("dataset.test_split", test_split, lengths),
    )


def load(
    name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    show_progress: bool = False,
    **others: Any,
) -> Dataset:
    """Loads a data set into memory.

    Args:
      name: `mnist`, `fashion_mnist` or `kmnist`, which are prepared if necessary; `digits`, which
        is part of scikit-learn; `files`, which are people's own; or the name of an image
        classification data set that TFDS has prepared as array_record in `data_dir`.
      data_dir: TFDS's data folder; empty: TFDS's default.
      manual_dir: folder with the four original files; empty: download them. Only read if the data
        set is not prepared yet.
      train_split: training examples, in TFDS's syntax, such as `train[:50000]`.
      test_split: test examples, in the same syntax.
      show_progress: whether slow steps draw a progress bar on standard error.
      others: other fields of `config.dataset`; for `files`, those of `Settings`.

    Returns:
      The training examples and the test examples, at least one of each.

    Raises:
      UserError: if the data set is unknown, cannot be prepared, or is damaged, or a split is
        invalid.
    """
    info = describe(
        name,
        data_dir=data_dir,
        train_split=train_split,
        test_split=test_split,
        show_progress=show_progress,
        **others,
    )
    if name == files.NAME:
        return _load_files(info, Settings.of(others), show_progress)
    if name == "digits":
        return load_parts(info, "digits", digits.fingerprint(), digits.read)
    if name in originals.ORIGINALS and not prepared.can_read():
        return _load_originals(info, name, data_dir, manual_dir, show_progress)
    folder = prepare(name, data_dir, manual_dir, show_progress)

    def read(split: str) -> Examples:
        return array_record.read(folder, split, show_progress)

    with prepared.translate_read_errors(folder):
        fingerprint = prepared.fingerprint(folder)
    return load_parts(info, str(folder.resolve()), fingerprint, read)


def _describe_files(
    settings: Settings, train_split: str, test_split: str, show_progress: bool
) -> Info:
    path = cache_path(str(settings), "description")
    known = files.describe(files.open_files(settings), path, show_progress)
    lengths = {split: [length] for split, length in known.lengths.items()}
    return Info(
        known.image_shape,
        known.class_names,
        parse_split("dataset.train_split", train_split, lengths),
        parse_split("dataset.test_split", test_split, lengths),
        known.source,
        known.warnings,
        known.digest,
    )


def _load_files(info: Info, settings: Settings, show_progress: bool) -> Dataset:
    file_set = files.open_files(settings)

    def read(split: str) -> Examples:
        return files.read(file_set.parts[split], split, show_progress)

    dataset = load_parts(info, str(settings), file_set.fingerprint, read)
    files.close()  # The arrays are in memory a second time now.
    return dataset


def prepare(name: str, data_dir: str, manual_dir: str, show_progress: bool) -> Path:
    """Prepares a data set other than `digits`, if it is not prepared yet, and returns its folder.

    Args:
      name: name of the data set, as for `load`.
      data_dir: TFDS's data folder; empty: TFDS's default.
      manual_dir: folder with the four original files; empty: download them.
      show_progress: whether to draw progress bars on standard error.

    Raises:
      UserError: if the data set is unknown or cannot be prepared.
    """
    data_path, manual_path = _data_path(data_dir), _manual_path(manual_dir)
    if name in originals.ORIGINALS and prepared.find(data_path, name) is None:
        try:
            mnist.prepare(name, data_path, manual_path, show_progress)
        except UserError as error:
            if unusable := prepared.problems(data_path, name):
                raise UserError(f"{unusable}; {error}") from error
            raise
    return _find(name, data_path)


def _load_originals(
    info: Info, name: str, data_dir: str, manual_dir: str, show_progress: bool
) -> Dataset:
    """Loads MNIST or one like it from the four original files, without preparing it with TFDS.

    For platforms without the package array_record. The examples have the same order as elsewhere.
    """
    data_path, manual_path = _data_path(data_dir), _manual_path(manual_dir)

    @functools.cache
    def arrays() -> Mapping[str, originals.Arrays]:
        if manual_path:
            paths = originals.find_originals(manual_path)
        else:
            paths = mnist.download(name, data_path, show_progress)
        return originals.read_originals(name, paths)

    def read(split: str) -> Examples:
        image, label = arrays()[split]
        order = originals.tfds_order(split, len(label))
        return Examples(image[order][..., np.newaxis], label[order].astype(np.int32))

    if digests := originals.ORIGINALS[name].sha256:
        fingerprint = str(digests)
    else:
        fingerprint = prepared.fingerprint(manual_path) if manual_path else "downloaded"
    return load_parts(info, f"original files of {name}", fingerprint, read)


def _manual_path(manual_dir: str) -> Path | None:
    """Returns the folder with the four original files; None if they are to be downloaded.

    Raises:
      UserError: if there is no such folder.
    """
    path = local_folder("dataset.manual_dir", manual_dir) if manual_dir else None
    if path and not os.path.isdir(path):
        raise UserError(
            f"dataset.manual_dir={path} is invalid: it must be a folder with the four original "
            "files. Change dataset.manual_dir."
        )
    return path


def load_test(name: str, *, test_split: str = "test", **arguments: Any) -> Examples:
    """Loads only the test examples of a data set.

    Args:
      name: name of the data set, as for `load`.
      test_split: test examples, in TFDS's syntax.
      arguments: further arguments of `load`; `train_split` is ignored.

    Raises:
      UserError: if the data set is unknown, cannot be prepared, or is damaged, or the split is
        invalid.
    """
    return load(name, **{**arguments, "train_split": test_split}, test_split=test_split).test


def needs_tfds(
    name: str,
    *,
    data_dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    **unused: object,
) -> bool:
    """Returns whether `load` will import TFDS if it is called with the same arguments.

    While TFDS is imported, it replaces Python's import function for all threads. No other thread
    may import anything during that time.
    """
    if name in ("digits", files.NAME):
        return False
    if not (folder := prepared.find(_data_path(data_dir), name)):
        return True
    info = describe(name, data_dir=data_dir, train_split=train_split, test_split=test_split)
    splits = {part.split for part in info.train + info.test}
    paths = [cache_path(str(folder.resolve()), split) for split in splits]
    return not all(path and path.exists() for path in paths)


def _data_path(data_dir: str) -> Path:
    """Returns TFDS's data folder, by the same rule as TFDS, without importing it.

    Args:
      data_dir: the folder; empty: $TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Raises:
      UserError: if it is no folder of this machine, or the user has no home folder.
    """
    default = os.environ.get("TFDS_DATA_DIR")
    if default and not data_dir:
        return local_folder("TFDS_DATA_DIR", default)
    return local_folder("dataset.data_dir", data_dir or "~/tensorflow_datasets")


def _find(name: str, data_path: Path) -> Path:
    """Returns the folder of a prepared data set.

    Raises:
      UserError: if the data set is not prepared.
    """
    folder = prepared.find(data_path, name)
    if folder:
        return folder
    if unusable := prepared.problems(data_path, name):
        raise UserError(
            f"{unusable}: a data set must be prepared as array_record. Prepare it with TFDS in "
            "another dataset.data_dir, with file_format='array_record' (most builders need "
            "TensorFlow for that; docs/extending.md shows one that does not)."
        )
    raise UserError(
        f"dataset.name={name} is not prepared in {data_path}: it must be one of "
        f"{', '.join(originals.ORIGINALS)}, digits, or a data set that TFDS has prepared there as "
        "array_record. Prepare it with TFDS (most builders need TensorFlow for that; "
        "docs/extending.md shows one that does not), or change dataset.name or dataset.data_dir."
    )
