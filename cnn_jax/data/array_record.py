"""Finds and reads data sets that stand prepared by TFDS as array_record."""

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from cnn_jax.data.types import Examples
from cnn_jax.errors import UserError

_CHUNK = 1000  # Records read at once: enough to be fast, little enough to show progress.


def find(data_dir: Path, name: str) -> Path | None:
    """The folder of the newest prepared version, or None.

    Args:
      data_dir: TFDS's data folder.
      name: as TFDS spells it: `NAME`, `NAME/CONFIG`, and either with `:VERSION`.

    Raises:
      UserError: when the name is not one, or the folder is of a format that needs TensorFlow.
    """
    # No part of a path may be longer than 255 bytes.
    match = re.fullmatch(r"(\w{1,100})(/[\w.-]{1,100})?(?::(\d+\.\d+\.\d+))?", name, re.ASCII)
    if not match:
        raise UserError(
            f"dataset.name={name} is not a name: allowed is NAME, NAME/CONFIG or NAME:1.2.3. "
            "Change dataset.name."
        )
    parent = data_dir / (match[1] + (match[2] or ""))
    versions = [match[3]] if match[3] else _versions(parent)
    for version in versions:
        folder = parent / version
        info = folder / "dataset_info.json"
        if os.path.isfile(info):  # pathlib's form raises where a path is too long.
            file_format = _read_json(info).get("fileFormat", "tfrecord")
            if file_format != "array_record":
                raise UserError(
                    f"{folder} is prepared as {file_format}, which needs TensorFlow to read: "
                    "allowed is array_record. Use another dataset.data_dir, or convert it with "
                    "TFDS (file_format=array_record)."
                )
            return folder
    return None


def _versions(parent: Path) -> list[str]:
    """Names of the version folders, the newest first; an unfinished one has another name."""
    if not os.path.isdir(parent):  # As above.
        return []
    names = [p.name for p in parent.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
    return sorted(names, key=lambda name: tuple(map(int, name.split("."))), reverse=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Delete {path.parent} and prepare it again."
        ) from error
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def translate_errors(folder: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a prepared folder is read into words.

    Raises:
      UserError: naming the folder.
    """
    try:
        yield
    except UserError:
        raise
    # The libraries for records, protocol buffers and pictures raise whatever they like.
    except Exception as error:
        problem = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"{folder} is damaged and cannot be read ({problem}). Delete that folder to have it "
            "prepared again."
        ) from error


def fingerprint(folder: Path) -> str:
    """Changes when any file of the folder does: SHA-256 over names, sizes and times."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        stat = path.stat()
        digest.update(f"{path.name}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _builder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    with translate_errors(folder):
        return tfds.builder_from_directory(folder)


def shard_lengths(folder: Path) -> dict[str, list[int]]:
    """Number of examples in each file of each split; read without importing TFDS."""
    with translate_errors(folder):
        splits = _read_json(folder / "dataset_info.json")["splits"]
        return {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}


def describe(folder: Path) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Image shape (height, width, channels) and what each label stands for.

    Raises:
      UserError: when these are not images of one size, uint8, each with one label.
    """
    import tensorflow_datasets as tfds

    features = _builder(folder).info.features
    named = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = named.get("image"), named.get("label")
    if not isinstance(label, tfds.features.ClassLabel):
        raise UserError(
            f"{folder} has no class label: allowed are data sets with the features `image` and "
            "`label`. Change dataset.name."
        )
    if (
        not isinstance(image, tfds.features.Image)
        or None in image.shape
        or image.shape[2] not in (1, 3)
        or image.np_dtype != np.uint8
    ):
        raise UserError(
            f"{folder} holds {image!r}: allowed are uint8 images of one size with 1 or 3 channels. "
            "Change dataset.name."
        )
    return image.shape, tuple(label.names)


class Records:
    """Random access to the examples of one split, in the order in which TFDS stores them.

    A pickle of it holds no open file: each process opens the files anew, with its first read.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder = folder
        self._split = split
        self._opened: tuple[Any, tuple[int, int, int], int] | None = None

    def __reduce__(self) -> tuple[type["Records"], tuple[Path, str]]:
        return Records, (self._folder, self._split)

    def open(self) -> int:
        """Opens the files, unless they are open; returns the number of examples.

        This imports TFDS, which, meanwhile, replaces Python's own import function for all threads:
        so it is for one thread alone, whereas many may read.

        Raises:
          UserError: when the folder is damaged.
        """
        if self._opened is None:
            import tensorflow_datasets as tfds

            with translate_errors(self._folder):
                shape, class_names = describe(self._folder)
                source = _builder(self._folder).as_data_source(
                    self._split, decoders={"image": tfds.decode.SkipDecoding()}
                )
                self._opened = source, shape, len(class_names)
        return len(self._opened[0])

    def read(self, rows: npt.NDArray[np.integer[Any]]) -> Examples:
        """Reads and decodes some examples.

        Args:
          rows: integers [N], from 0; in any order, and any of them as often as one likes.

        Returns:
          N examples, in that order.

        Raises:
          UserError: when records are missing or damaged.
        """
        self.open()
        assert self._opened is not None
        source, shape, num_classes = self._opened
        images = np.empty((len(rows), *shape), np.uint8)
        labels = np.empty(len(rows), np.int32)
        with translate_errors(self._folder):
            for index, record in enumerate(source.__getitems__(rows.tolist())):
                images[index] = _decode(record["image"], shape)
                labels[index] = record["label"]
            if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
                raise ValueError(f"labels outside 0..{num_classes - 1}")
        return Examples(images, labels)


def read(folder: Path, split: str, show_progress: bool) -> Examples:
    """Reads and decodes one whole split.

    Raises:
      UserError: when records are missing or damaged.
    """
    with translate_errors(folder):
        shape, _ = describe(folder)
    records = Records(folder, split)
    images = np.empty((records.open(), *shape), np.uint8)
    labels = np.empty(len(images), np.int32)
    starts = range(0, len(images), _CHUNK)
    for start in tqdm(starts, f"Reading {split}", disable=not show_progress, leave=False):
        chunk = slice(start, min(start + _CHUNK, len(images)))
        some = records.read(np.arange(chunk.start, chunk.stop))
        images[chunk], labels[chunk] = some.image, some.label
    return Examples(images, labels)


def _decode(encoded: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The pixels of one encoded picture."""
    mode = "L" if shape[2] == 1 else "RGB"
    with Image.open(io.BytesIO(encoded)) as picture:
        # `convert` would copy it all the same, which takes a sixth of the time.
        pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return pixels.reshape(shape)
