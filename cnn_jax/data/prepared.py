"""Finds the data sets that TFDS has prepared in the array_record format."""

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from cnn_jax.errors import UserError, translate_errors


def find(data_dir: Path, name: str) -> Path | None:
    """Returns the folder of a prepared data set, of its newest version unless the name says which.

    Args:
      data_dir: TFDS's data folder.
      name: name in TFDS's syntax: `NAME` or `NAME/CONFIG`, either followed by `:VERSION` or not.

    Returns:
      The folder, or None if the data set is not prepared.

    Raises:
      UserError: if the name is not in this syntax, or the data set is prepared in a format that
        requires TensorFlow.
    """
    # A file name may have at most 255 bytes.
    match = re.fullmatch(r"(\w{1,100})(/[\w.-]{1,100})?(?::(\d+\.\d+\.\d+))?", name, re.ASCII)
    if not match:
        raise UserError(
            f"dataset.name={name} is invalid: it must be NAME, NAME/CONFIG or NAME:1.2.3. Change "
            "dataset.name."
        )
    parent = data_dir / (match[1] + (match[2] or ""))
    versions = [match[3]] if match[3] else _versions(parent)
    for version in versions:
        folder = parent / version
        info = folder / "dataset_info.json"
        if os.path.isfile(info):  # Path.is_file raises if the path is too long.
            file_format = _read_json(info).get("fileFormat", "tfrecord")
            if file_format != "array_record":
                raise UserError(
                    f"cannot read {folder} (it is prepared as {file_format}, which requires "
                    "TensorFlow): it must be prepared as array_record. Choose another "
                    "dataset.data_dir, or convert it with TFDS (file_format=array_record)."
                )
            return folder
    return None


def _versions(parent: Path) -> list[str]:
    """Returns the names of the version folders, the newest version first.

    Folders that TFDS has not finished have other names, and are left out.
    """
    if not os.path.isdir(parent):  # Path.is_dir raises if the path is too long.
        return []
    names = [p.name for p in parent.iterdir() if re.fullmatch(r"\d+\.\d+\.\d+", p.name)]
    return sorted(names, key=lambda name: tuple(map(int, name.split("."))), reverse=True)


def _read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file; an empty dict if the file holds another JSON value.

    Raises:
      UserError: if the file cannot be read or is not JSON.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({error}): it must be the JSON file that TFDS wrote. Delete "
            f"{path.parent} to have it prepared again."
        ) from error
    return content if isinstance(content, dict) else {}


def translate_read_errors(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Turns any exception that is raised while a prepared folder is read into a UserError.

    The libraries that read records, protocol buffers and PNG files do not document what they raise.
    """
    return translate_errors(
        f"cannot read {folder}",
        "it must be an intact data set that TFDS has prepared. Delete that folder to have it "
        "prepared again.",
        kind=Exception,
    )


def shard_lengths(folder: Path) -> dict[str, list[int]]:
    """Returns the number of examples in each file of each split, without importing TFDS.

    Raises:
      UserError: if the folder is damaged.
    """
    with translate_read_errors(folder):
        splits = _read_json(folder / "dataset_info.json")["splits"]
        return {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}


def fingerprint(folder: Path) -> str:
    """Returns a SHA-256 over the names, sizes and modification times of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        stat = path.stat()
        digest.update(f"{path.name}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
