"""A data set's name -> images and labels in memory: prepared if need be, decoded once, cached."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.data import array_record, cache, digits, mnist
from cnn_jax.data.types import Dataset, Examples, Info, Part
from cnn_jax.errors import UserError
from cnn_jax.io import files


def describe(
    name: str, *, data_dir: str = "", train_split: str = "train", test_split: str = "test"
) -> Info:
    """Shapes and sizes, without a download and without reading images; arguments as in `load`.

    Raises:
      UserError: when the data set is neither known nor prepared, or a split is wrong.
    """
    lengths: Mapping[str, Sequence[int]]
    if name == "digits":
        shape, class_names, lengths = digits.IMAGE_SHAPE, digits.CLASS_NAMES, digits.SHARD_LENGTHS
    elif name in mnist.ORIGINALS:
        shape, lengths = mnist.IMAGE_SHAPE, mnist.SHARD_LENGTHS
        class_names = mnist.ORIGINALS[name].class_names
        if folder := array_record.find(
            _data_path(data_dir), name
        ):  # TFDS can prepare a part of it.
            lengths = array_record.shard_lengths(folder)
    else:
        folder = _find(name, _data_path(data_dir))
        shape, class_names = array_record.describe(folder)
        lengths = array_record.shard_lengths(folder)
    return Info(
        shape,
        class_names,
        _parts("dataset.train_split", train_split, lengths),
        _parts("dataset.test_split", test_split, lengths),
    )


def load(
    name: str,
    *,
    data_dir: str = "",
    manual_dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    show_progress: bool = False,
    **unused: object,
) -> Dataset:
    """Brings a data set into memory.

    Args:
      name: `mnist`, `fashion_mnist` or `kmnist`, which are prepared when they are not yet;
        `digits`, which comes with scikit-learn; or the name of any image classification set that
        TFDS has prepared as array_record in `data_dir`.
      data_dir: TFDS's data folder; empty for TFDS's own default.
      manual_dir: a folder with the four original files, or empty to download them; read only
        when the data set is not prepared yet.
      train_split: in TFDS's syntax, such as `train[:50000]`.
      test_split: likewise.
      show_progress: whether slow parts draw a bar on standard error.

    Returns:
      Both sets of examples, each at least one.

    Raises:
      UserError: when the data set cannot be had, is damaged, or a split is wrong.
    """
    info = describe(name, data_dir=data_dir, train_split=train_split, test_split=test_split)
    if name == "digits":
        return _load_parts(info, "digits", digits.fingerprint(), digits.read)
    folder = prepare(name, data_dir, manual_dir, show_progress)

    def read(split: str) -> Examples:
        return array_record.read(folder, split, show_progress)

    with array_record.translate_errors(folder):
        fingerprint = array_record.fingerprint(folder)
    return _load_parts(info, str(folder.resolve()), fingerprint, read)


def prepare(name: str, data_dir: str, manual_dir: str, show_progress: bool) -> Path:
    """The folder of a data set other than `digits`, prepared if need be; arguments as in `load`.

    Raises:
      UserError: when the data set cannot be had.
    """
    data_path = _data_path(data_dir)
    manual_path = Path(os.path.expanduser(manual_dir)) if manual_dir else None
    if manual_path and not os.path.isdir(manual_path):
        raise UserError(
            f"dataset.manual_dir={manual_path} is no folder: allowed is one with the four original "
            "files. Change dataset.manual_dir."
        )
    if name in mnist.ORIGINALS and array_record.find(data_path, name) is None:
        mnist.prepare(name, data_path, manual_path, show_progress)
    return _find(name, data_path)


def load_test(name: str, *, test_split: str = "test", **arguments: Any) -> Examples:
    """The test examples alone; arguments as in `load`.

    Raises:
      UserError: as `load` does.
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
    """Whether `load`, with the same arguments, is going to import TFDS.

    TFDS, while it is imported, replaces Python's own import function for all threads, so no other
    thread may import anything meanwhile.
    """
    if name == "digits":
        return False
    if not (folder := array_record.find(_data_path(data_dir), name)):
        return True
    info = describe(name, data_dir=data_dir, train_split=train_split, test_split=test_split)
    splits = {part.split for part in info.train + info.test}
    return not all(_cache_path(str(folder.resolve()), split).exists() for split in splits)


def _data_path(data_dir: str) -> Path:
    """TFDS's rule for its data folder, without the cost of importing TFDS."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(data_dir or default))


def _find(name: str, data_path: Path) -> Path:
    folder = array_record.find(data_path, name)
    if folder is None:
        raise UserError(
            f"dataset.name={name} is not prepared in {data_path}: allowed are "
            f"{', '.join(mnist.ORIGINALS)}, digits, and what TFDS has prepared there as "
            "array_record. Prepare it with TFDS, or change dataset.name or dataset.data_dir."
        )
    return folder


def _parts(key: str, spec: str, lengths: Mapping[str, Sequence[int]]) -> tuple[Part, ...]:
    """What a split specification stands for.

    Args:
      key: the config key, for the error.
      spec: in TFDS's syntax.
      lengths: number of examples in each file of each split.

    Raises:
      UserError: when it is not in the syntax, names an unknown split or holds no example.
    """
    parts: tuple[Part, ...]
    if spec in lengths:  # The common case, without the cost of importing TFDS.
        parts = (Part(spec, 0, sum(lengths[spec])),)
    else:
        import tensorflow_datasets as tfds

        infos = {
            name: tfds.core.SplitInfo(name=name, shard_lengths=list(shards), num_bytes=0)
            for name, shards in lengths.items()
        }
        try:
            instructions = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
            parts = tuple(
                Part(i.splitname, i.from_ or 0, sum(lengths[i.splitname]) if i.to is None else i.to)
                for i in instructions
            )
        except (
            *(ValueError, AssertionError, KeyError, NotImplementedError),
            RecursionError,  # Of thousands of parts.
        ) as error:
            raise UserError(
                f"{key}={spec} is not a split: allowed are {', '.join(lengths)} and TFDS's slices "
                f"of them, as in {next(iter(lengths))}[:80%]. Change {key}."
            ) from error
    parts = tuple(part for part in parts if part.start < part.stop)
    if not parts:
        raise UserError(
            f"{key}={spec} holds no example: allowed is a split with at least one. Change {key}."
        )
    return parts


def _load_parts(
    info: Info, identity: str, fingerprint: str, read: Callable[[str], Examples]
) -> Dataset:
    """Cuts both sets of examples from whole splits, each read once: from the cache, or decoded.

    Args:
      info: which parts make up the sets.
      identity: names the data set and its place; the names of its cache files derive from it.
      fingerprint: changes when the contents may have changed.
      read: decodes a whole split.
    """
    whole: dict[str, Examples] = {}
    for split in sorted({part.split for part in info.train + info.test}):
        path = _cache_path(identity, split)
        found = cache.load(path, fingerprint)
        if found is None:
            found = read(split)
            cache.save(path, fingerprint, found)
        whole[split] = found
    for part in info.train + info.test:
        if (held := len(whole[part.split].label)) < part.stop:
            raise UserError(
                f"{identity} is damaged: its split {part.split} holds {held} examples, where "
                f"{part.stop} are promised. Delete it to have it prepared again."
            )
    return Dataset(_cut(whole, info.train), _cut(whole, info.test))


def _cache_path(identity: str, split: str) -> Path:
    place = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return files.cache_folder() / "data" / f"{place}-{split}"


def _cut(whole: Mapping[str, Examples], parts: Sequence[Part]) -> Examples:
    images = [whole[part.split].image[part.start : part.stop] for part in parts]
    labels = [whole[part.split].label[part.start : part.stop] for part in parts]
    if len(parts) == 1:
        return Examples(images[0], labels[0])  # A view: no copy of the whole set.
    return Examples(np.concatenate(images), np.concatenate(labels))
