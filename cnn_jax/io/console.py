"""Console output: lines on standard output, warnings and progress bars on standard error."""

import contextlib
import errno
import io
import os
import signal
import sys
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TextIO

from tqdm import tqdm

from cnn_jax.errors import UserError


def printable(text: str) -> str:
    """Returns the text with unprintable characters escaped.

    A file name may contain line breaks and terminal control sequences; the result is one line that
    a terminal only displays.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Console:
    """Prints lines and warnings to two streams.

    Attributes:
      out: stream for lines.
      err: stream for warnings and, if it is a terminal, progress bars.
    """

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        """Opens a console on two streams.

        Args:
          out: stream for lines; default: standard output.
          err: stream for warnings; default: standard error.
        """
        # sys.stdout and sys.stderr are None if the shell has closed them.
        self.out = out or sys.stdout or io.StringIO()
        self.err = err or sys.stderr or io.StringIO()

    def line(self, text: str) -> None:
        """Prints a line and flushes it, so that it also appears at once in a pipe.

        Raises:
          UserError: if the line cannot be written, for instance because the disk is full.
          BrokenPipeError: if the reader has closed the pipe, which is not an error of the user.
        """
        try:
            _print(text, self.out)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL and not hasattr(signal, "SIGPIPE"):
                # So Windows reports a closed pipe: https://github.com/python/cpython/issues/79935
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from error
            raise UserError(
                f"cannot write to standard output ({error.strerror}): it must be writable and "
                "have free space. Redirect it elsewhere and run the same command again; a "
                "training run with a --workdir then resumes."
            ) from error

    def progress_bar(self, *, total: int, initial: int, unit: str) -> tqdm:
        """Shows a progress bar: a line in a terminal, a widget in a notebook, nothing elsewhere.

        Args:
          total: number of units of the work.
          initial: number of units that are done already.
          unit: their name, in the plural.
        """
        options = {"total": total, "initial": initial, "unit": f" {unit}", "leave": False}
        # ipykernel's stream is no terminal. ipywidgets is in the extra `tutorial`.
        if type(self.err).__module__ == "ipykernel.iostream" and find_spec("ipywidgets"):
            from tqdm.notebook import tqdm as notebook_tqdm

            return notebook_tqdm(**options)
        return tqdm(file=self.err, disable=not self.err.isatty(), **options)

    def warn(self, text: str) -> None:
        """Prints a warning on one line: names of files in it may contain any character."""
        with contextlib.suppress(OSError):  # A warning that nobody can see must not end the work.
            _print(f"warning: {printable(text)}", self.err)


def _print(text: str, stream: TextIO) -> None:
    """Prints a line; characters that the stream cannot encode, as in file names, are escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)
) -> str:
    """Formats a table as text: the header, a rule, and one line per row.

    Args:
      header: title of each column.
      rows: for each row, the text of each column.
      left: indices of the columns to align left, for words; the others, for numbers, are aligned
        right.

    Returns:
      The lines of the table, joined by line breaks, without trailing spaces.
    """
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        padding = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [
            cell + spaces if column in left else spaces + cell
            for column, (cell, spaces) in enumerate(zip(row, padding, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(_width, lines)))
    return "\n".join(lines)


def _width(text: str) -> int:
    """Returns the number of columns that a terminal needs for a text."""
    wide = sum(unicodedata.east_asian_width(character) in "FW" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)
