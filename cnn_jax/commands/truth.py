"""The known classes of people's own pictures, and how well a model's predictions agree."""

import csv
import dataclasses
import os
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_jax.errors import UserError, translate_errors
from cnn_jax.evaluation.report import wilson_interval
from cnn_jax.wording import pluralize

_MAX_NAMED = 5  # Files that a message names.
_MAX_CLASSES = 10  # Classes that a message names.


def find_truth(
    images: Sequence[str],
    labels_file: str | None,
    pictures: Sequence[Path],
    class_names: Sequence[str],
    warn: Callable[[str], None],
) -> dict[Path, str]:
    """Returns the true class of each picture for which it is known.

    A file's own name never says its class.

    Args:
      images: the names of `--images`, of which folders may hold a subfolder for each class.
      labels_file: the name of `--labels`; with it the folders say nothing.
      pictures: the files that `images` stands for.
      class_names: names of the model's classes.
      warn: receives one text about labels of files that are not among the pictures.

    Raises:
      UserError: when the labels cannot be read, are invalid, or belong to none of the pictures.
    """
    if labels_file is None:
        return _truth_of_folders(images, pictures, class_names)
    labels = _read_labels(labels_file, class_names)
    truth = {p: labels[key] for p in pictures if (key := os.path.realpath(p)) in labels}
    if not truth:
        raise UserError(
            f"--labels={labels_file} labels none of the pictures: its first "
            "column must name files, relative to its own folder. Correct it, or change --images."
        )
    if others := set(labels) - {os.path.realpath(path) for path in truth}:
        names = ", ".join(sorted(Path(path).name for path in others)[:_MAX_NAMED])
        more = f", and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
        count = pluralize(len(others), "file")
        warn(f"--labels={labels_file} also labels {count} not among the pictures: {names}{more}")
    return truth


def _truth_of_folders(
    images: Sequence[str], pictures: Sequence[Path], class_names: Collection[str]
) -> dict[Path, str]:
    """Returns the names of the subfolders of a folder all of whose subfolders are classes."""
    truth: dict[Path, str] = {}
    has_classes: dict[Path, bool] = {}
    for root in (Path(os.path.expanduser(name)) for name in images if name):
        for path in pictures:
            if not path.is_relative_to(root):
                continue
            folder = root
            for name in path.relative_to(root).parts[:-1]:
                if folder not in has_classes:
                    has_classes[folder] = all(n in class_names for n in _subfolders(folder))
                if has_classes[folder]:
                    truth[path] = name
                    break
                folder /= name
    return truth


def _subfolders(folder: Path) -> Iterator[str]:
    return (p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _read_labels(labels_file: str, class_names: Sequence[str]) -> dict[str, str]:
    """Reads a CSV file with the columns file and label.

    Args:
      labels_file: name of the file. Its first row is a header if it names neither a file nor a
        class.
      class_names: names of the model's classes.

    Returns:
      The label of each file, by its resolved path.

    Raises:
      UserError: when the file cannot be read, or a row is invalid.
    """
    given = f"--labels={labels_file}"
    must_be = "it must be a CSV file in UTF-8 with the columns file,label. Correct or replace it."
    with (
        translate_errors(f"cannot read {given}", must_be, kind=Exception),
        Path(labels_file).open(encoding="utf-8-sig", newline="") as file,
    ):
        reader = csv.reader(file, strict=True)
        rows = [(reader.line_num, row) for row in reader]
        if any("\0" in cell for _, row in rows for cell in row):
            raise csv.Error("it contains a null byte")
    labels: dict[str, str] = {}
    for index, (line, row) in enumerate(rows):
        if not any(row):
            continue
        if len(row) != 2:
            raise UserError(
                f"{given} has {pluralize(len(row), 'column')} in line {line}: it must have the two "
                "columns file,label. Correct that line."
            )
        name, label = row[0].strip(), row[1].strip()
        path = os.path.realpath(Path(labels_file).parent / name)
        if not _is_label(label, class_names):
            if index == 0 and not Path(path).exists():
                continue  # The header.
            more = ", ..." if len(class_names) > _MAX_CLASSES else ""
            raise UserError(
                f"{given} has the label {label!r} in line {line}: it must be a class of the model "
                f"({', '.join(class_names[:_MAX_CLASSES])}{more}). Correct that line."
            )
        if labels.setdefault(path, label) != label:
            raise UserError(
                f"{given} labels {name} {label} in line {line}, and {labels[path]} before: a file "
                "must have one label. Remove one of the two lines."
            )
    return labels


def _is_label(label: str, class_names: Collection[str]) -> bool:
    """Returns whether a label is a class, or a number where all classes are digits."""
    if all(len(name) == 1 and name in string.digits for name in class_names):
        return bool(label) and set(label) <= set(string.digits)
    return label in class_names


@dataclasses.dataclass
class Score:
    """How well the predictions for pictures agree with what is known of them.

    Attributes:
      outcomes: (truth, prediction) of each picture that was read and whose class is known.
      num_unknown: number of pictures whose class is not known.
      num_unread: number of pictures of known class that could not be read.
    """

    outcomes: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    num_unknown: int = 0
    num_unread: int = 0

    def add(self, truth: str | None, prediction: str | None) -> None:
        """Adds one picture; its truth is None if unknown, its prediction if it was not read."""
        if truth is None:
            self.num_unknown += 1
        elif prediction is None:
            self.num_unread += 1
        else:
            self.outcomes.append((truth, prediction))

    def text(self) -> str:
        """Returns one line: the accuracy, its confidence interval, and how many are left out."""
        count = len(self.outcomes)
        left_out = [f"{self.num_unknown} of unknown class"] if self.num_unknown else []
        left_out += [f"{self.num_unread} not read"] if self.num_unread else []
        end = f"; left out: {', '.join(left_out)}" if left_out else ""
        if not count:
            return f"Accuracy: unknown, no picture of known class was read{end}"
        num_correct = sum(truth == prediction for truth, prediction in self.outcomes)
        low, high = wilson_interval(num_correct, count)
        of_all = f"{num_correct:,} of {pluralize(count, 'picture')}"
        return (
            f"Accuracy: {100 * num_correct / count:.2f} % ({of_all}), "
            f"95 % confidence interval {100 * low:.2f} % to {100 * high:.2f} % (Wilson){end}"
        )

    def confusion(self, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Returns the confusion matrix of the outcomes that are classes, not longer numbers.

        Returns:
          int64 [K, K], counts; rows are true classes, columns predictions.
        """
        index_of = {name: index for index, name in enumerate(class_names)}
        confusion = np.zeros((len(class_names), len(class_names)), np.int64)
        for truth, prediction in self.outcomes:
            if truth in index_of and prediction in index_of:
                confusion[index_of[truth], index_of[prediction]] += 1
        return confusion
