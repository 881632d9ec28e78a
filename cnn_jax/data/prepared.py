"""Finds the data sets that TFDS has prepared, and says why one cannot be used.

TFDS prepares a data set in `data_dir/NAME/VERSION`. Without TensorFlow only the array_record format
can be read. Where the folder of MNIST is there but cannot be used, it is left alone, and MNIST is
prepared beside it, in `data_dir/array_record/NAME/VERSION`.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cnn_jax.data.originals import ORIGINALS
from cnn_jax.errors import UserError, translate_errors

BESIDE = "array_record"


def can_read() -> bool:
    """Returns whether the package that reads the array_record format is installed."""
    return find_spec("array_record") is not None


def find(data_dir: Path, name: str) -> Path | None:
    """Returns the folder of a prepared data set, of its newest version unless the name says which.

    Args:
      data_dir: TFDS's data folder.
      name: name in TFDS's syntax: `NAME` or `NAME/CONFIG`, either followed by `:VERSION` or not.

    Returns:
      The folder, or None if the data set is not prepared, or none of its folders can be used.

    Raises:
      UserError: if the name is not in this syntax.
    """
    return next((folder for folder in _folders(data_dir, name) if problem(folder) is None), None)


def problems(data_dir: Path, name: str) -> str:
    """Returns why the folders of a data set cannot be used; empty if it has none.

    Args:
      data_dir: TFDS's data folder.
      name: name in TFDS's syntax.
    """
    found = ((folder, problem(folder)) for folder in _folders(data_dir, name))
    return "; ".join(
        f"{folder} cannot be used, since {reason}" for folder, reason in found if reason
    )


def problem(folder: Path) -> str | None:
    """Returns why the folder of a version cannot be used, or None if it looks usable."""
    for file in ("dataset_info.json", "features.json"):
        if not os.path.isfile(folder / file):  # Path.is_file raises if the folder is unreadable.
            return f"its {file} is missing or cannot be read"
    try:
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        formats = {info.get("fileFormat", "tfrecord"), *info.get("alternativeFileFormats", ())}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return f"its dataset_info.json is not what TFDS wrote ({error})"
    if "array_record" not in formats:
        return f"it is prepared as {', '.join(map(str, formats))}, which requires TensorFlow"
    if not can_read():
        return (
            "it is prepared as array_record, which requires the package of that name (TFDS "
            "installs it on Linux alone)"
        )
    return None


def _folders(data_dir: Path, name: str) -> Iterator[Path]:
    """Yields the folders of a data set, the newest version first.

    Folders that TFDS has not finished have other names, and are left out.
    """
    # A file name may have at most 255 bytes.
    match = re.fullmatch(r"(\w{1,100})(/[\w.-]{1,100})?(?::(\d+\.\d+\.\d+))?", name, re.ASCII)
    if not match:
        raise UserError(
            f"dataset.name={name} is invalid: it must be NAME, NAME/CONFIG or NAME:1.2.3. Change "
            "dataset.name."
        )
    for root in (data_dir, data_dir / BESIDE):
        parent = root / (match[1] + (match[2] or ""))
        if not os.path.isdir(parent):  # Path.is_dir raises if the path is too long.
            continue
        with translate_errors(f"cannot list {parent}", "it must be readable. Change that."):
            names = [path.name for path in parent.iterdir()]
        versions = [name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name)]
        versions.sort(key=lambda version: tuple(map(int, version.split("."))), reverse=True)
        yield from (parent / version for version in versions if match[3] in (None, version))


def shard_lengths(folder: Path) -> dict[str, list[int]]:
    """Returns the number of examples in each file of each split, without importing TFDS.

    Raises:
      UserError: if the folder is damaged.
    """
    with translate_read_errors(folder):
        content: Any = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        return {
            split["name"]: [int(n) for n in split["shardLengths"]] for split in content["splits"]
        }


def translate_read_errors(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Turns any exception that is raised while a prepared folder is read into a UserError.

    The libraries that read records, protocol buffers and PNG files do not document what they raise.
    """
    return translate_errors(
        f"cannot read {folder}",
        f"it must be an intact data set that TFDS has prepared. {advice(folder)}",
        kind=Exception,
    )


def advice(folder: Path) -> str:
    """Returns what to do about a damaged folder, so that nothing is lost."""
    name = folder.parent.name
    if name in ORIGINALS:
        return f"Rename that folder, and {name} is prepared again."
    return "Restore it, or prepare it with TFDS in another dataset.data_dir."


def fingerprint(folder: Path) -> str:
    """Returns a SHA-256 over the names, sizes and modification times of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        stat = path.stat()
        digest.update(f"{path.name}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
