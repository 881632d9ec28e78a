"""The file of `--output`: a line for each image, with its name or number and its class."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnn_jax.commands.prediction import Prediction
from cnn_jax.errors import UserError, translate_errors
from cnn_jax.io.files import write_atomically
from cnn_jax.preprocessing.pages import Page
from cnn_jax.wording import pluralize

HEADERS = {"csv": ("id", "label"), "kaggle": ("ImageId", "Label")}  # By `--format`.


class Answers:
    """Predictions for a CSV file, which is written at the end as a whole.

    Attributes:
      path: of the file.
    """

    def __init__(self, path: str, output_format: str, inputs: Sequence[str]) -> None:
        """Checks that the file can be written.

        Args:
          path: name of the file.
          output_format: a key of `HEADERS`. With `csv` an image has the name of its file, or its id
            or row, from 0, in a file of images; with `kaggle` images are numbered from 1.
          inputs: names of files and folders that are read.

        Raises:
          UserError: when the file is one of these or a folder, or its folder is not writable.
        """
        self.path = Path(os.path.expanduser(path))
        self._format = output_format
        self._rows: list[tuple[Page, int | None, str]] = []
        is_read = self.path.exists() and any(
            Path(name).exists() and self.path.samefile(name)
            for name in map(os.path.expanduser, inputs)
        )
        is_writable = os.access(self.path.parent, os.W_OK | os.X_OK)
        if is_read or self.path.is_dir() or not is_writable:
            raise UserError(
                f"--output={path} is invalid: it must be a file, none of those that are read, in a "
                "writable folder. Change --output."
            )

    def add(self, prediction: Prediction) -> None:
        """Adds a line, whose label is empty where the picture could not be read."""
        self._rows.append((prediction.page, prediction.line, prediction.label or ""))

    def write(self) -> str:
        """Writes the file, and returns a line about it.

        Raises:
          UserError: when that fails.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(HEADERS[self._format])
        labels = (label for _, _, label in self._rows)
        numbers = range(1, len(self._rows) + 1)
        ids = numbers if self._format == "kaggle" else self._names()
        writer.writerows(zip(ids, labels, strict=True))
        with translate_errors(
            f"cannot write --output={self.path}",
            "it must be a file in a writable folder on a disk with free space. Change --output.",
        ):
            write_atomically(self.path, text.getvalue().encode("utf-8", "surrogateescape"))
        return f"Answers: {self.path}, {pluralize(len(self._rows), 'row')}"

    def _names(self) -> Iterator[str]:
        """Yields names of files, with folders where two files have one name, or ids or rows."""
        paths = {page.path for page, _, _ in self._rows}
        is_unique = len({path.name for path in paths}) == len(paths)
        for page, line, _ in self._rows:
            if page.unit != "page":
                yield str(page.number)
                continue
            name = page.path.name if is_unique else str(page.path)
            yield name + page.label + ("" if line is None else f" line {line}")
