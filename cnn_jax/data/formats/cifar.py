"""The binary version of CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html).

A record has one label, or two of CIFAR-100: the coarse and the fine one, of which the fine one is
used. Then follow 32x32 bytes of red, of green and of blue.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cnn_jax.data.formats.split import (
    ArraySplit,
    Form,
    Found,
    Split,
    check_memory,
    read_error,
)

_SHAPE = (3, 32, 32)
_SIZE = 3 * 32 * 32
_NAMES = {1: "batches.meta.txt", 2: "fine_label_names.txt"}  # Beside the files.
_PICKLED = ("data_batch_1", "train", "test_batch", "test")


def find(path: Path) -> Found | None:
    """Returns the data set of a folder or one of its files, or None where it is not CIFAR's.

    Raises:
      UserError: for the version of pickled files.
    """
    folder = path if path.is_dir() else path.parent
    parts: dict[str, list[Path]] = {"train": [path]}
    if path.is_dir():
        parts = {
            "train": sorted(folder.glob("data_batch_*.bin")) or sorted(folder.glob("train.bin")),
            "test": sorted([*folder.glob("test_batch.bin"), *folder.glob("test.bin")]),
        }
        _refuse_pickles([folder / name for name in _PICKLED])
    else:
        _refuse_pickles([path])
    parts = {name: files for name, files in parts.items() if files}
    if "train" not in parts or any(file.suffix != ".bin" for file in parts["train"]):
        return None
    files = [file for listed in parts.values() for file in listed]
    num_labels = _num_labels(files)
    names = [folder / _NAMES[num_labels]] if (folder / _NAMES[num_labels]).is_file() else []

    def open_splits(form: Form) -> Mapping[str, Split]:
        class_names = _read_names(names)
        return {
            name: _open(listed, num_labels, class_names, form) for name, listed in parts.items()
        }

    return Found(f"CIFAR-{10 if num_labels == 1 else 100}, binary", [*files, *names], open_splits)


def _refuse_pickles(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(1) == b"\x80":
                raise read_error(
                    path,
                    "it is a pickle, which can run code",
                    "be of the binary version of CIFAR",
                    "Download that from https://www.cs.toronto.edu/~kriz/cifar.html.",
                )


def _num_labels(files: Sequence[Path]) -> int:
    """Returns the number of labels of a record, by the sizes of the files."""
    sizes = [file.stat().st_size for file in files]
    for num_labels in (2, 1) if files[0].stem in ("train", "test") else (1, 2):
        if all(size and size % (num_labels + _SIZE) == 0 for size in sizes):
            return num_labels
    file = next(
        file for file, size in zip(files, sizes, strict=True) if not size or size % (1 + _SIZE)
    )
    must = f"have records of {1 + _SIZE} or, of CIFAR-100, {2 + _SIZE} bytes"
    advice = "Get the file again from where you have it."
    raise read_error(file, f"it has {file.stat().st_size:,} bytes", must, advice)


def _read_names(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(
        line.strip()
        for file in files
        for line in file.read_text("utf-8", "replace").splitlines()
        if line.strip()
    )


def _open(files: Sequence[Path], num_labels: int, names: tuple[str, ...], form: Form) -> Split:
    check_memory(files[0], 2 * sum(file.stat().st_size for file in files))
    records = [np.fromfile(file, np.uint8).reshape(-1, num_labels + _SIZE) for file in files]
    for file, rows in zip(files, records, strict=True):
        numbers = rows[:, num_labels - 1]
        if names and len(wrong := np.flatnonzero(numbers >= len(names))):
            row = int(wrong[0])
            raise read_error(
                f"{file}, row {row}",
                f"its label is {numbers[row]}",
                f"be below {len(names)}, the number of names in {_NAMES[num_labels]}",
                "Get the file again from where you have it.",
            )
    joined = np.concatenate(records)
    image = joined[:, num_labels:].reshape(-1, *_SHAPE).transpose(0, 2, 3, 1)
    label = joined[:, num_labels - 1].astype(np.int64)
    return ArraySplit(files[0], image, label, form, names)
