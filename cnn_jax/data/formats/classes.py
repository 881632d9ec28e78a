"""The classes of a data set of files: their names, and the labels as their indices."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_jax.data.formats.split import Split, read_error
from cnn_jax.errors import UserError
from cnn_jax.io.folders import local_folder
from cnn_jax.wording import pluralize

_IMBALANCE = 10  # Ratio of the numbers of examples of two classes that is worth a warning.
_MAX_NAMES_SIZE = 10**6  # Bytes of the file of names.

Labels = dict[str, npt.NDArray[np.int32]]


def number_classes(
    splits: Mapping[str, Split], label_names: Sequence[str]
) -> tuple[tuple[str, ...], Labels]:
    """Numbers the classes from 0.

    Args:
      splits: with `train` among them.
      label_names: names of the classes, in their order; empty: those of the files. For classes
        that have names in the files, the same names.

    Returns:
      The names, and for each split the labels, int32 [N], 0..K-1. Without any names, they are the
      numbers in the files, which may start at 0 or 1.

    Raises:
      UserError: for a label out of range, and a name of another split that `train` lacks.
    """
    train = splits["train"]
    if train.class_names:
        names = tuple(label_names) or train.class_names
        if label_names and (other := set(names) ^ set(train.class_names)):
            raise UserError(
                f"dataset.label_names is invalid (it and the files differ in "
                f"{_join(sorted(other))}): it must have the names of the classes in the files, in "
                "any order. Change that file."
            )
        return names, {name: _by_name(split, names) for name, split in splits.items()}
    first, stop = _range(train, len(label_names))
    names = tuple(label_names) or tuple(map(str, range(first, stop)))
    labels = {}
    for name, split in splits.items():
        if split.class_names:
            raise read_error(
                split.where(0),
                f"its label is {split.class_names[split.label[0]]!r}",
                f"be a number from {first} to {stop - 1}, as in the training examples",
                "Use the same labels in both parts.",
            )
        if len(wrong := np.flatnonzero((split.label < first) | (split.label >= stop))):
            row = int(wrong[0])
            raise read_error(
                split.where(row),
                f"its label is {split.label[row]}",
                f"be from {first} to {stop - 1}, as in the training examples",
                "Correct the label, or remove the example.",
            )
        labels[name] = (split.label - first).astype(np.int32)
    return names, labels


def _range(train: Split, num_names: int) -> tuple[int, int]:
    """Returns the first number of a class, 0 or 1, and the one after the last."""
    row, last = int(train.label.argmin()), int(train.label.argmax())
    low, high = int(train.label[row]), int(train.label[last])
    if low < 0:
        must, advice = "be at least 0", "Correct the label, or remove the example."
        raise read_error(train.where(row), f"its label is {low}", must, advice)
    first = 1 if low == 1 and num_names in (0, high) else 0
    if num_names and high - first >= num_names:
        must = f"be below the number of names in dataset.label_names, {num_names}"
        advice = "Correct the label, or add names."
        raise read_error(train.where(last), f"its label is {high}", must, advice)
    if high > len(train.label):
        must = f"be below the number of training examples, {len(train.label):,}"
        advice = "Number the classes from 0, without gaps."
        raise read_error(train.where(last), f"its label is {high}", must, advice)
    return first, first + num_names if num_names else high + 1


def _by_name(split: Split, names: Sequence[str]) -> npt.NDArray[np.int32]:
    index = {name: number for number, name in enumerate(names)}
    values, inverse = np.unique(split.label, return_inverse=True)
    own = [
        split.class_names[value] if split.class_names else str(value) for value in values.tolist()
    ]
    labels = np.array([index.get(name, -1) for name in own], np.int32)[inverse]
    if len(wrong := np.flatnonzero(labels < 0)):
        row = int(wrong[0])
        raise read_error(
            split.where(row),
            f"its class is {own[inverse[row]]!r}",
            f"be one of the classes of the training examples, {_join(names)}",
            "Correct the class, or remove the example.",
        )
    return labels


def check_classes(
    path: str, names: Sequence[str], train: npt.NDArray[np.int32], test: npt.NDArray[np.int32]
) -> list[str]:
    """Checks that there are classes to learn.

    Args:
      path: of the data set, for messages.
      names: names of the classes.
      train: labels of the training examples.
      test: labels of the test examples.

    Returns:
      Warnings, one for an imbalance.

    Raises:
      UserError: for one class alone, a class without examples, and one that only the test has.
    """
    if len(names) < 2:
        advice = "Add examples of others."
        raise read_error(path, f"all examples are of the class {names[0]}", "have two", advice)
    counts = np.bincount(train, minlength=len(names))
    for number in np.flatnonzero(counts == 0).tolist():
        in_test = int(np.count_nonzero(test == number))
        where = f", but {in_test} in the test part" if in_test else ""
        raise read_error(
            path,
            f"the class {names[number]} has no training examples{where}",
            f"have some of each of its {len(names)} classes",
            "Add examples of it, or remove the class.",
        )
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < _IMBALANCE * counts[least]:
        return []
    return [
        f"the class {names[most]} has {pluralize(int(counts[most]), 'training example')}, "
        f"{names[least]} only {counts[least]:,}: a model may prefer the common classes"
    ]


def read_label_names(path: str) -> tuple[str, ...]:
    """Reads `dataset.label_names`, a text file in UTF-8 with one name a line; empty: none.

    Raises:
      UserError: when it cannot be read, is empty, or has a name twice or an empty one.
    """
    if not path:
        return ()
    key = f"dataset.label_names={path}"
    must, advice = "it must be a text file with the name of a class a line.", "Change that file."
    try:
        with Path(local_folder("dataset.label_names", path)).open("rb") as file:
            content = file.read(_MAX_NAMES_SIZE).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not in UTF-8"
        raise UserError(f"cannot read {key} ({reason}): {must} {advice}") from error
    names = tuple(line.strip() for line in content.rstrip().splitlines())
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            reason = f"line {number} " + (f"has {name} again" if name else "is empty")
            raise UserError(f"cannot use {key} ({reason}): {must} {advice}")
    if not names:
        raise UserError(f"cannot use {key} (it is empty): {must} {advice}")
    return names


def _join(names: Sequence[str], most: int = 5) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
